"""Maximum concept matching (Ming et al., NeurIPS 2022), for models whose last layer holds text embeddings.

Score: 1 - max_c softmax(cos(z, t_c) / temperature)_c, where t_c is row c of the head's weight: in a zero-shot
vision-language classifier that row is the text embedding of class c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from testbed.detection.base import Detector, State, require
from testbed.detection.numeric import complement_of_max, unit_rows
from testbed.parameters import Positive
from testbed.types import Float64, Outputs, Paper


@dataclass(frozen=True)
class MCM(Detector):
    """1 - max softmax of cosine similarities; consumes features and head, nothing to fit.

    temperature  divides the cosines; the paper's default is 1

    >>> head = {"head_weight": np.eye(2), "head_bias": np.zeros(2)}
    >>> MCM().score(Outputs(logits=np.zeros((1, 2)), features=np.array([[5.0, 5.0]]), **head)).round(6).tolist()
    [0.5]
    """

    temperature: Positive = 1.0

    consumes = ("features", "head")
    reference: ClassVar[Paper] = Paper(
        "Delving into Out-of-Distribution Detection with Vision-Language Representations",
        "Yifei Ming, Ziyang Cai, Jiuxiang Gu, Yiyou Sun, Wei Li, Yixuan Li", 2022, "NeurIPS", "2211.13445",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.temperature > 0, "mcm.temperature", "a positive number", self.temperature)

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """1 - the largest concept probability."""
        cosines = unit_rows(np.asarray(outputs.features)) @ unit_rows(np.asarray(outputs.head_weight)).T
        return complement_of_max(cosines / self.temperature)
