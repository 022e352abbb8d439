"""ODIN (Liang, Li & Srikant, ICLR 2018): temperature and a small step towards more confidence.

x' = x - eps sign(grad_x -log softmax(f(x) / T)_y), y the predicted class; score: 1 - max_c softmax(f(x') / T)_c.
`eps` is in units of the input in [0, 1]. The paper's code steps after normalisation and divides by its standard
deviation, so its 0.0014 is 0.0014 x std here per channel; the default keeps the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.detection.base import State, require
from testbed.detection.network import Network, NetworkDetector, step_down
from testbed.detection.numeric import complement_of_max
from testbed.parameters import NonNegative, Positive
from testbed.types import Float64, Ints, Paper


@dataclass(frozen=True)
class ODIN(NetworkDetector):
    """1 - max softmax(f(x') / T); consumes inputs, nothing to fit, two forward passes and one gradient an example.

    temperature  T > 0; published sweep 1, 10, 100, 1000
    eps          size of the step, in units of the input; published sweep 0.0014, 0.0028
    """

    temperature: Positive = 1000.0
    eps: NonNegative = 0.0014

    passes: ClassVar[Mapping[str, int]] = {"forward": 2, "gradient": 1}
    reference: ClassVar[Paper] = Paper(
        "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks",
        "Shiyu Liang, Yixuan Li, R. Srikant", 2018, "ICLR", "1706.02690",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.temperature > 0, "odin.temperature", "a positive number", self.temperature)
        require(self.eps >= 0, "odin.eps", "a number >= 0", self.eps)

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        import torch

        moved = step_down(x, self._surprise(network), self.eps)
        with torch.no_grad():
            logits = network.logits(moved).double().cpu().numpy()
        return complement_of_max(logits / self.temperature)

    def _surprise(self, network: Network) -> Any:
        return lambda x: -(network.logits(x) / self.temperature).log_softmax(dim=1).max(dim=1).values
