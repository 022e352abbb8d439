"""numba with the project's settings: cached on disk, no lock held, no fast-math (it would reorder sums by CPU)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """The function as machine code; each image is worked on alone, so no result can depend on the batch."""
    return cast(F, numba.njit(cache=True, nogil=True, boundscheck=False)(function))
