"""Scoring many detectors on one set: the similarity passes are shared, the rest is one method after the other."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.detection import similarity
from testbed.detection.base import Detector, finite_rows
from testbed.types import Float64, Outputs


def score_all(detectors: Mapping[str, Detector], outputs: Outputs) -> dict[str, Float64]:
    """Scores float64 `[n]` by name, bit for bit those of each detector on its own, with one pass a (bank, query).

    >>> import numpy as np
    >>> from testbed.detection.energy import Energy
    >>> from testbed.detection.msp import MSP
    >>> sorted(score_all({"msp": MSP(), "energy": Energy()}, Outputs(logits=np.zeros((2, 3)))))
    ['energy', 'msp']
    """
    searching = [d for d in detectors.values() if hasattr(d, "need")]
    if searching and outputs.features is not None and finite_rows(outputs, ("logits", "features")).all():
        similarity.share(searching, outputs)
    return {name: detector.score(outputs) for name, detector in detectors.items()}
