"""A system of which the outputs are known and nothing else: a model of a grid whose data are `use: outputs`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from testbed.errors import UsageError
from testbed.parameters import Checked
from testbed.types import Spec

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Recorded(Checked):
    """One system of a data set of outputs.

    system  name of its file without the ending; may be left out where there is one
    """

    system: str = ""

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("tabular",)
    gradients: ClassVar[bool] = False
    weights_from: ClassVar[str] = "nowhere"

    def build(self, spec: Spec) -> nn.Module:
        """There is no network: UsageError."""
        raise UsageError(
            "the model 'outputs' is a file of answers, no network that can be run; its data: `use: outputs`"
        )
