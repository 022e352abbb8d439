"""The built-in models as plug-ins: parameters here, networks in `testbed.models.nets`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.types import Paper, Spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class SmallCnn:
    """Two strided convolutions and two linear layers; at 28x28 the MNIST network of Wong et al. 2020.

    >>> sum(p.numel() for p in SmallCnn().build(Spec("image", (28, 28, 1), 10)).parameters())
    166406
    """

    width: int = 16
    hidden: int = 100

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Provable Defenses against Adversarial Examples via the Convex Outer Adversarial Polytope",
        "Eric Wong, J. Zico Kolter",
        2018,
        "ICML",
        "1711.00851",
    )

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, small_cnn

        return small_cnn.SmallCnn(common.image_spec(spec, "small_cnn", least=4), spec.classes, self.width, self.hidden)
