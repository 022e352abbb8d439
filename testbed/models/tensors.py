"""From examples at rest to what a model takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from testbed.errors import DataError
from testbed.types import Array, Spec

if TYPE_CHECKING:
    import torch


def as_tensor(x: Array, spec: Spec) -> torch.Tensor:
    """float32 model input from examples stored as `spec` says; the result shares no memory with `x`.

    uint8 `[n h w c]` becomes `[n c h w]` divided by 255; float32 `[n c h w]` (an attacked set) and `[n features]` stay
    as they are; series `[n time channels]` become `[n channels time]`.

    >>> as_tensor(np.full((2, 4, 5, 3), 51, dtype=np.uint8), Spec("image", (4, 5, 3), 10)).shape
    torch.Size([2, 3, 4, 5])
    """
    import torch

    if x.shape[1:] != spec.shape or x.dtype != spec.dtype:
        expected, got = f"{spec.dtype} [n, {', '.join(map(str, spec.shape))}]", f"{x.dtype} {list(x.shape)}"
        raise DataError(f"examples do not fit their spec: expected {expected}, got {got}")
    if spec.layout == "hwc":
        x = x.transpose(0, 3, 1, 2)
    elif spec.layout == "tc":
        x = x.transpose(0, 2, 1)
    values = torch.from_numpy(np.array(x, dtype=np.float32, order="C"))
    return values.div_(255) if spec.dtype == "uint8" else values
