"""Reference models for tables and time series as plug-ins; their networks are in `testbed.models.nets.vectors`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.errors import UsageError
from testbed.parameters import Checked, Count, ShareBelowOne
from testbed.types import Paper, Spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Mlp(Checked):
    """A multi-layer perceptron: linear layers of `hidden` units with ReLU; any kind of set, flattened.

    Of a table, numbers are scaled by their bounds and batch-normalised, categories are one-hot (so their gradient is
    zero: a gradient attack moves numbers alone), and a missing number (NaN) is the middle of its range.

    >>> table = Spec("tabular", (3,), 2, "float32", "f", ((0.0, 1.0), (0.0, 4.0), (0.0, 9.0)), categorical=(1,))
    >>> sum(p.numel() for p in Mlp(hidden=(8,)).build(table).parameters())  # (2 + 5) 8 + 8 + 8 2 + 2
    82
    """

    hidden: tuple[Count, ...] = (64, 64)
    dropout: ShareBelowOne = 0.0

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("tabular", "series", "image")
    reference: ClassVar[Paper] = Paper(
        "Learning representations by back-propagating errors", "Rumelhart, Hinton, Williams", 1986, "Nature"
    )

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import vectors

        if not self.hidden or min(self.hidden) < 1:
            raise UsageError(f"model 'mlp': hidden needs one layer of one unit at least, got {self.hidden}")
        return vectors.Mlp(spec, self.hidden, self.dropout)


@dataclass(frozen=True)
class Cnn1d(Checked):
    """The convolutional network of MNIST-1D: three strided convolutions over time and a linear layer.

    >>> series = Spec("series", (40, 1), 10, "float32", "tc", ((-5.0, 5.0),))
    >>> sum(p.numel() for p in Cnn1d().build(series).parameters())  # as published
    5210
    """

    width: Count = 25

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("series",)
    reference: ClassVar[Paper] = Paper("Scaling down Deep Learning", "Sam Greydanus", 2020, "arXiv", "2011.14439")

    def build(self, spec: Spec) -> nn.Module:
        """The network with fresh weights from torch's global generator."""
        from testbed.models.nets import vectors

        if spec.kind != "series":
            raise UsageError(f"model 'cnn1d' takes series, not {spec.kind} data")
        channels, time = spec.model_shape
        if time < vectors.SHORTEST:
            raise UsageError(f"model 'cnn1d' takes series of at least {vectors.SHORTEST} points, the data has {time}")
        return vectors.Cnn1d(channels, time, spec.classes, self.width)
