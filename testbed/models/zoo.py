"""The built-in models as plug-ins: parameters here, networks in `testbed.models.nets`.

`normalise` names the constants of the first layer (`testbed.models.nets.common.STATISTICS`); all networks take images
in [0, 1], so eps is in pixels whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from testbed.errors import UsageError
from testbed.parameters import Checked, Count, ShareBelowOne
from testbed.types import Paper, Spec

if TYPE_CHECKING:
    from torch import nn

Statistics = Literal["none", "imagenet", "cifar10", "cifar10_63", "half", "inception", "mnist"]


@dataclass(frozen=True)
class SmallCnn(Checked):
    """Two strided convolutions and two linear layers; at 28x28 the MNIST network of Wong & Kolter 2018.

    Takes the public checkpoints of that network as they are (keys `0`, `2`, `5`, `7`).

    >>> sum(p.numel() for p in SmallCnn().build(Spec("image", (28, 28, 1), 10)).parameters())
    166406
    """

    width: Count = 16
    hidden: Count = 100
    normalise: Statistics = "none"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Provable Defenses against Adversarial Examples via the Convex Outer Adversarial Polytope",
        "Eric Wong, J. Zico Kolter",
        2018,
        "ICML",
        "1711.00851",
    )

    @property
    def key_map(self) -> dict[str, str]:
        """Names in the public checkpoints -> names here."""
        from testbed.models.nets.small_cnn import KEYS

        return KEYS

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, small_cnn

        shape = common.image_spec(spec, "small_cnn", least=4)
        normalise = common.normalise(self.normalise, shape[0])
        return small_cnn.SmallCnn(shape, spec.classes, self.width, self.hidden, normalise=normalise)


@dataclass(frozen=True)
class KolterWong(Checked):
    """The small and large convolutional networks of Wong & Kolter; takes their public checkpoints as they are.

    >>> sum(p.numel() for p in KolterWong("large").build(Spec("image", (28, 28, 1), 10)).parameters())
    1974762
    """

    variant: Literal["small", "large"] = "small"
    normalise: Statistics = "none"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = SmallCnn.reference

    @property
    def key_map(self) -> Callable[[str], str]:
        """Names in the public checkpoints -> names here."""
        from testbed.models.nets.kolter_wong import keys

        return keys

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, kolter_wong

        channels, h, w = common.image_spec(spec, "kolter_wong", least=4)
        if h % 4 or w % 4:
            raise UsageError(f"model 'kolter_wong' takes sides that are multiples of 4, the data has {h}x{w}")
        normalise = common.normalise(self.normalise, channels)
        return kolter_wong.KolterWong(self.variant, (channels, h, w), spec.classes, normalise)


@dataclass(frozen=True)
class CifarResNet(Checked):
    """ResNet-20, 32, 44, 56, 110 of He et al. 2016 for small images.

    >>> sum(p.numel() for p in CifarResNet(depth=20).build(Spec("image", (32, 32, 3), 10)).parameters())
    269722
    """

    depth: Count = 20
    normalise: Statistics = "imagenet"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Deep Residual Learning for Image Recognition",
        "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
        2016,
        "CVPR",
        "1512.03385",
    )

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import cifar_resnet, common

        if self.depth < 8 or self.depth % 6 != 2:
            raise UsageError(f"cifar_resnet: depth must be 6n + 2 (20, 32, 44, 56, 110, ...), got {self.depth}")
        channels, _, _ = common.image_spec(spec, "cifar_resnet", least=4)
        normalise = common.normalise(self.normalise, channels)
        return cifar_resnet.CifarResNet(self.depth, channels, spec.classes, normalise)


@dataclass(frozen=True)
class CrownResNet(Checked):
    """The verification benchmark's small ResNets without batch norm, for 32x32 RGB."""

    variant: Literal["2b", "4b"] = "2b"
    normalise: Statistics = "cifar10"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Beta-CROWN: Efficient Bound Propagation with Per-neuron Split Constraints",
        "Shiqi Wang, Huan Zhang, Kaidi Xu, Xue Lin, Suman Jana, Cho-Jui Hsieh, J. Zico Kolter",
        2021,
        "NeurIPS",
        "2103.06624",
    )

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, crown_resnet

        channels, h, w = common.image_spec(spec, "crown_resnet", channels=3)
        if (h, w) != (32, 32):
            raise UsageError(f"model 'crown_resnet' takes 32x32 images, the data has {h}x{w}")
        normalise = common.normalise(self.normalise, channels) or common.Normalise((0.0,) * 3, (1.0,) * 3)
        return crown_resnet.CrownResNet(self.variant, spec.classes, normalise)


@dataclass(frozen=True)
class LeNet5(Checked):
    """LeNet-5; `form` says which of the two networks of that name, `dropout` is put before each linear layer."""

    form: Literal["classic", "uncertainty"] = "classic"
    dropout: ShareBelowOne = 0.0

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Gradient-based learning applied to document recognition",
        "Yann LeCun, Leon Bottou, Yoshua Bengio, Patrick Haffner",
        1998,
        "Proceedings of the IEEE",
    )

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, lenet

        shape = common.image_spec(spec, "lenet5", least=12 if self.form == "classic" else 4)
        return lenet.LeNet5(shape, spec.classes, self.form, self.dropout)


@dataclass(frozen=True)
class WideResNet(Checked):
    """WRN-depth-width, by default WRN-28-10.

    >>> sum(p.numel() for p in WideResNet(depth=16, width=2).build(Spec("image", (32, 32, 3), 10)).parameters())
    691674
    """

    depth: Count = 28
    width: Count = 10
    dropout: ShareBelowOne = 0.0
    normalise: Statistics = "none"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Wide Residual Networks", "Sergey Zagoruyko, Nikos Komodakis", 2016, "BMVC", "1605.07146"
    )

    @property
    def key_map(self) -> Callable[[str], str | None]:
        """Checkpoints of TRADES carry a second first stage, `sub_block1`, that no forward pass uses: left out."""
        return lambda name: None if name.startswith("sub_block1.") else name

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, wide_resnet

        if self.depth < 10 or self.depth % 6 != 4:
            raise UsageError(f"wide_resnet: depth must be 6n + 4 (10, 16, 28, 34, 40, ...), got {self.depth}")
        channels, _, _ = common.image_spec(spec, "wide_resnet", least=4)
        normalise = common.normalise(self.normalise, channels)
        return wide_resnet.WideResNet(self.depth, self.width, channels, spec.classes, self.dropout, normalise)


@dataclass(frozen=True)
class PreActResNet18(Checked):
    """Pre-activation ResNet-18 for small images.

    >>> sum(p.numel() for p in PreActResNet18().build(Spec("image", (32, 32, 3), 10)).parameters())
    11172170
    """

    normalise: Statistics = "none"

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    reference: ClassVar[Paper] = Paper(
        "Identity Mappings in Deep Residual Networks",
        "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
        2016,
        "ECCV",
        "1603.05027",
    )

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import common, preact_resnet

        channels, _, _ = common.image_spec(spec, "preact_resnet18", least=8)
        return preact_resnet.PreActResNet18(channels, spec.classes, common.normalise(self.normalise, channels))
