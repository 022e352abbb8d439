"""What a replay is asked to do, as plain frozen values: the part of a stream file that decides the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ConformalSettings:
    """Prediction sets: split conformal, and the same with adaptive conformal inference (step size `gamma`)."""

    score: Literal["lac", "aps", "raps"] = "lac"
    alpha: float = 0.1
    gamma: float = 0.005


@dataclass(frozen=True)
class DriftSettings:
    """Detectors on the last `window` outputs against `reference` calibration examples, every `every` steps."""

    detectors: tuple[str, ...] = ("ks", "bbsd", "mmd")
    window: int = 200
    every: int = 200
    level: float = 0.01
    reference: int = 500
    permutations: int = 200


@dataclass(frozen=True)
class RollingSettings:
    """Measures of the last `window` labelled examples, every `every` steps."""

    window: int = 500
    every: int = 100
    replicates: int = 200


@dataclass(frozen=True)
class RollbackSettings:
    """After `window` labels an online calibrator goes back to a state of `to` that was surely better by `margin`."""

    metric: str = "nll"
    window: int = 500
    margin: float = 0.0
    to: tuple[str, ...] = ("previous", "fitted")


@dataclass(frozen=True)
class ReplaySettings:
    """All of it. `batch` examples arrive together; a label is known `label_delay` steps after its example."""

    seed: int = 0
    batch: int = 50
    label_delay: int = 0
    conformal: ConformalSettings = ConformalSettings()
    drift: DriftSettings = DriftSettings()
    rolling: RollingSettings = RollingSettings()
    rollback: RollbackSettings | None = RollbackSettings()


def settings(plain: Mapping[str, Any]) -> ReplaySettings:
    """The settings of a recipe's plain values.

    >>> settings({"batch": 10, "drift": {"detectors": ["ks"], "window": 50}}).drift.detectors
    ('ks',)
    """

    def part(kind: Any, name: str) -> dict[str, Any]:
        if plain.get(name) is None:
            return {name: None} if name == "rollback" and name in plain else {}
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in plain[name].items()}
        return {name: kind(**values)}

    return ReplaySettings(
        **{key: plain[key] for key in ("seed", "batch", "label_delay") if key in plain},
        **part(ConformalSettings, "conformal"),
        **part(DriftSettings, "drift"),
        **part(RollingSettings, "rolling"),
        **part(RollbackSettings, "rollback"),
    )
