"""A stream file as pydantic models: one data set, one model, and what happens to it after deployment, step by step.

Data set, model, calibrators and conditions are written as in a grid. The defaults of the settings are those of
`testbed.monitoring.settings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from testbed.grid.model import CalibratorRef, Condition, DataRef, File, FolderName, ModelRef, Real, Runtime, Seed, Size
from testbed.monitoring import settings
from testbed.parameters import no_truth

Positive: TypeAlias = Size
DetectorName: TypeAlias = Literal["ks", "bbsd", "mmd", "confidence"]
State: TypeAlias = Literal["previous", "fitted"]

_CONFORMAL, _DRIFT, _ROLLING = settings.ConformalSettings(), settings.DriftSettings(), settings.RollingSettings()
_ROLLBACK, _REPLAY = settings.RollbackSettings(), settings.ReplaySettings()


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Segment(_Strict):
    """Some steps under a condition, and how the stream comes to it.

    change  sudden; gradual (mixed in over the first `over` steps); ramp (several severities or radii one after the
            other); recurring (in turn with what was before, `period` steps each)
    wrong_labels  share of the labels of these steps that arrive wrong
    """

    condition: Condition = "clean"
    steps: Positive
    change: Literal["sudden", "gradual", "ramp", "recurring"] = "sudden"
    over: Positive | None = None
    period: Positive | None = None
    wrong_labels: Annotated[Real, Field(ge=0, le=1)] = 0.0


class Conformal(_Strict):
    """Prediction sets: nonconformity score, target error rate, and step of adaptive conformal inference."""

    score: Literal["lac", "aps", "raps"] = _CONFORMAL.score
    alpha: Annotated[Real, Field(gt=0, lt=1)] = _CONFORMAL.alpha
    gamma: Annotated[Real, Field(ge=0, le=1)] = _CONFORMAL.gamma


class Drift(_Strict):
    """Drift detectors on the model's outputs: which, on how many outputs, how often, and at which level."""

    detectors: Annotated[list[DetectorName], BeforeValidator(_listed)] = list(_DRIFT.detectors)  # type: ignore[arg-type]
    window: Annotated[Size, Field(ge=10)] = _DRIFT.window
    every: Positive | None = None
    level: Annotated[Real, Field(gt=0, lt=1)] = _DRIFT.level
    reference: Annotated[Size, Field(ge=10)] = _DRIFT.reference
    permutations: Positive = _DRIFT.permutations


class Rolling(_Strict):
    """Measures of the last `window` labelled examples, every `every` steps; bootstrap replicates of their intervals."""

    window: Annotated[Size, Field(ge=10)] = _ROLLING.window
    every: Positive = _ROLLING.every
    replicates: Annotated[Size, Field(ge=50, le=100_000)] = _ROLLING.replicates


class Rollback(_Strict):
    """When an online calibrator goes back: by which metric and margin, after how many labels, and to which states."""

    metric: str = _ROLLBACK.metric
    window: Annotated[Size, Field(ge=30)] = _ROLLBACK.window
    margin: Annotated[Real, Field(ge=0)] = _ROLLBACK.margin
    to: Annotated[list[State], BeforeValidator(_listed), Field(min_length=1)] = list(_ROLLBACK.to)  # type: ignore[arg-type]


class Stream(File):
    """A deployment: the stream, the calibrators that go along, and what watches them."""

    name: FolderName
    seed: Seed = 0
    train_seed: Seed = 0
    data: DataRef
    model: ModelRef
    stream: Annotated[list[Segment], BeforeValidator(_listed), Field(min_length=1)]
    batch: Positive = _REPLAY.batch
    label_delay: Annotated[int, Field(ge=0), BeforeValidator(no_truth)] = _REPLAY.label_delay
    calibrators: Annotated[list[CalibratorRef], BeforeValidator(_listed), Field(min_length=1)]
    conformal: Conformal = Conformal()
    drift: Drift = Drift()
    rolling: Rolling = Rolling()
    rollback: Rollback | None = Rollback()
    keep: Literal["outputs", "inputs", "all"] = "outputs"
    runtime: Runtime = Runtime()
