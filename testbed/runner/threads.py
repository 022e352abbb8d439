"""Numeric libraries obey the number of threads that the plan gives a job, wherever it runs.

A sum split over two threads rounds otherwise than over one, and a Ray worker, a child process and the driver start with
different defaults. So a job's number is set around it: for libraries that are loaded by asking them (threadpoolctl),
for those that the job itself will load through the environment variables that they read then. torch keeps a number of
its own, which the operations that use torch set.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
#: Packages that bring native thread pools: the pools are looked up again when another of them was imported.
_POOLED: Final = ("numpy", "scipy.linalg", "sklearn", "torch", "numba", "pyarrow", "cv2")


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """At most this many threads in BLAS and OpenMP inside the block; as before after it.

    >>> with limited(1):
    ...     os.environ["OMP_NUM_THREADS"]
    '1'
    """
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(dict.fromkeys(VARIABLES, str(threads)))
    try:
        with _pools(tuple(name for name in _POOLED if name in sys.modules)).limit(limits=threads):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@lru_cache(maxsize=1)
def _pools(loaded: tuple[str, ...]) -> Any:
    """The native thread pools of this process, looked up once a set of packages: it takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
