"""KL matching (Hendrycks et al., ICML 2022): divergence from the nearest class-typical prediction.

The template d_k is the mean softmax of the calibration examples that are PREDICTED as class k (no labels). Score:
min_k KL(p || d_k). Templates are kept as logarithms, so no probability is ever zero. A class that is never predicted
on the calibration split has no template and is left out, with a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import Detector, State, caution
from testbed.detection.numeric import log_softmax, logsumexp
from testbed.errors import DataError
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class KLMatching(Detector):
    """min_k KL(p || d_k) >= 0; consumes logits, fitted on the calibration split without labels.

    >>> calibration = Outputs(logits=np.log([[0.8, 0.2], [0.3, 0.7]]))
    >>> KLMatching().fit(calibration).score(Outputs(logits=np.log([[0.8, 0.2], [0.5, 0.5]]))).round(4).tolist()
    [0.0, 0.0872]
    """

    fitted_on = "calibration"
    reference: ClassVar[Paper] = Paper(
        "Scaling Out-of-Distribution Detection for Real-World Settings",
        "Dan Hendrycks, Steven Basart, Mantas Mazeika, Andy Zou, Joe Kwon, Mohammadreza Mostajabi, Jacob Steinhardt, "
        "Dawn Song", 2022, "ICML", "1911.11132",
    )  # fmt: skip

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """log d_k of the classes that are predicted, float64 `[c k]`."""
        log_p = log_softmax(outputs.logits)
        predicted = log_p.argmax(axis=1)
        present = np.unique(predicted)
        if len(present) < log_p.shape[1]:
            caution(f"klm: {log_p.shape[1] - len(present)} classes are never predicted on this split; no template")
        rows = [log_p[predicted == c] for c in present]
        return {"templates": np.stack([logsumexp(r.T) - np.log(len(r)) for r in rows])}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The smallest divergence."""
        templates = state["templates"]
        if outputs.logits.shape[1] != templates.shape[1]:
            raise DataError(
                f"klm was fitted on {templates.shape[1]} classes, and these logits have {outputs.logits.shape}"
            )
        log_p = log_softmax(outputs.logits)
        p = np.exp(log_p)
        nearest: Float64 = ((p * log_p).sum(axis=1)[:, None] - p @ templates.T).min(axis=1)
        return np.maximum(nearest, 0.0)
