"""Find out how far a classifier can be trusted: accuracy, calibration and OOD detection under attack and shift.

    >>> import testbed
    >>> shift = testbed.shift("gaussian_noise", severity=3, params="mnist28")

Importing this imports neither torch nor ray; each name below is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed import metrics as metrics
    from testbed.api import attack as attack
    from testbed.api import calibrator as calibrator
    from testbed.api import detector as detector
    from testbed.api import evaluate as evaluate
    from testbed.api import shift as shift
    from testbed.types import Examples as Examples
    from testbed.types import Outputs as Outputs
    from testbed.types import Paper as Paper
    from testbed.types import Spec as Spec

__version__ = "0.1.0"

_HOME = {
    **dict.fromkeys(("attack", "shift", "calibrator", "detector", "evaluate"), "testbed.api"),
    **dict.fromkeys(("Examples", "Outputs", "Paper", "Spec"), "testbed.types"),
}


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return importlib.import_module("testbed.metrics")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'testbed' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_HOME, "metrics", "__version__"])
