"""The grid as pydantic models: the fixed keys, their types and their defaults.

Keys that belong to a plug-in (its parameters, beside `use`) are let through here and checked against the plug-in's own
schema by `testbed.grid.resolve`. A value that may be given as a list is kept as a list: every combination is run.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from testbed.grid.values import unprintable
from testbed.parameters import MOST, no_truth, real, short

Real: TypeAlias = Annotated[float, BeforeValidator(real)]
Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**63), BeforeValidator(no_truth)]
Size: TypeAlias = Annotated[int, Field(ge=1, le=MOST), BeforeValidator(no_truth)]


def _one_line(value: str) -> str:
    if (says := unprintable(value)) is not None or len(value.splitlines()) > 1 or "\t" in value:
        raise ValueError(f"expected a name in one line, got {short(value)}{f': {says}' if says else ''}")
    if not value.strip() or len(value) > 200:
        raise ValueError(f"expected a name of 1 to 200 characters, got {short(value)}")
    return value


def _folder(value: str) -> str:
    if value.strip() in (".", ".."):
        raise ValueError(f"expected a name that can be a folder's, got {value!r}")
    return value


#: What people call an entry; what a run folder is called.
Name: TypeAlias = Annotated[str, AfterValidator(_one_line)]
FolderName: TypeAlias = Annotated[str, Field(pattern=r"^[^/\\]+$"), AfterValidator(_one_line), AfterValidator(_folder)]


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _distinct(values: list[Any]) -> list[Any]:
    twice = next((value for i, value in enumerate(values) if value in values[:i]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is given twice")
    return values


Seeds: TypeAlias = Annotated[list[Seed], BeforeValidator(_listed), Field(min_length=1), AfterValidator(_distinct)]
Victim: TypeAlias = Annotated[str, Field(pattern=r"^(model|calibrated|(detector|surrogate|bpda):.+)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _without_anchors(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: one for key, one in value.items() if not str(key).startswith("x-")}


class File(_Strict):
    """The top of a file, where keys that begin with `x-` hold anchors and mean nothing."""

    model_config = ConfigDict(json_schema_extra={"patternProperties": {"^x-": {}}})

    @model_validator(mode="before")
    @classmethod
    def _anchors(cls, value: Any) -> Any:
        return _without_anchors(value)


class Use(BaseModel):
    """A plug-in and its parameters: `name`, or `{use: name, parameter: value}`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: str

    @property
    def params(self) -> dict[str, Any]:
        """What stands beside the fixed keys: the plug-in's parameters."""
        return dict(self.model_extra or {})


def _use(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


Ref: TypeAlias = Annotated[Use, BeforeValidator(_use)]
Refs: TypeAlias = Annotated[list[Ref], BeforeValidator(_listed), Field(min_length=1)]


class Data(Use):
    """A data set and its splits; a split left out takes what the data set has (`train`) or is absent."""

    name: Name | None = None
    train: Size | None = None
    calibration: Size | None = None
    test: Size | None = None
    limit: Size | None = None


class Train(BaseModel):
    """How a model is trained: a recipe, its length, and the recipe's own parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)
    recipe: str = "standard"
    epochs: Annotated[int, Field(ge=1, le=1_000_000), BeforeValidator(no_truth)] = 8

    @property
    def params(self) -> dict[str, Any]:
        """The recipe's parameters."""
        return dict(self.model_extra or {})


class Variant(_Strict):
    """How a network predicts: an ensemble of so many seeds, so many dropout masks, so many draws, or the batch."""

    ensemble: Annotated[int, Field(ge=2, le=100), BeforeValidator(no_truth)] | None = None
    mc_dropout: Annotated[int, Field(ge=2, le=1000), BeforeValidator(no_truth)] | None = None
    draws: Annotated[int, Field(ge=2, le=1000), BeforeValidator(no_truth)] | None = None
    batch_statistics: Literal[True] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1:
            raise ValueError("expected one of {ensemble: N}, {mc_dropout: N}, {draws: N}, batch_statistics")
        return self

    def recipe(self) -> dict[str, Any]:
        """What a digest must know of it."""
        (kind,) = self.model_fields_set
        count = getattr(self, kind)
        return {"kind": kind} if count is True else {"kind": kind, "count": count}


def _variant(value: Any) -> Any:
    return {value: True} if value == "batch_statistics" else value


class Model(Use):
    """A network, and where its weights come from: `train`, a `weights` file, or what `use` builds.

    output  which part of what it gives has the scores: a name, or a position in a tuple
    scores  whether those are logits, or probabilities (a softmax is its last layer)
    """

    name: Name | None = None
    train: Train | None = None
    weights: str | None = None
    feature_layer: str | None = None
    output: str | int | None = None
    scores: Literal["logits", "probs"] | None = None
    predict: Annotated[Variant, BeforeValidator(_variant)] | None = None


class _Conditioned(_Strict):
    name: Name | None = None


class ShiftCondition(_Conditioned):
    """One or more shifts at one or more severities in [0, 5]."""

    shift: Refs
    severity: Annotated[list[Real], BeforeValidator(_listed), Field(min_length=1)] = [3.0]

    @field_validator("severity")
    @classmethod
    def _in_range(cls, values: list[float]) -> list[float]:
        for value in values:
            if not 0 <= value <= 5:
                raise ValueError(f"expected a severity in [0, 5], got {value:g}")
        return values


class AttackCondition(_Conditioned):
    """One or more attacks in one norm at one or more radii, against a victim.

    victim: one or more of model | calibrated | detector:NAME | surrogate:NAME | surrogate:* (every model of the grid) |
    bpda:LAYER (the model, a named layer of which has the gradient of the identity)
    quantised: the attacked images are rounded to 8 bits
    curve: the radii are one sweep, from the largest down, which costs little more than the dearest of them
    """

    attack: Refs
    norm: Literal["linf", "l2", "l1", "l0"] = "linf"
    eps: Annotated[list[Real], BeforeValidator(_listed), Field(min_length=1)]
    victim: Annotated[list[Victim], BeforeValidator(_listed), Field(min_length=1)] = ["model"]
    quantised: bool = False
    curve: bool = False

    @field_validator("eps")
    @classmethod
    def _positive(cls, values: list[float]) -> list[float]:
        for value in values:
            if not 0 <= value < float("inf"):
                raise ValueError(f"expected a radius of at least 0, got {value:g}")
        return values


class ChainCondition(_Conditioned):
    """Shifts and attacks one after the other."""

    chain: Annotated[list[Step], Field(min_length=1)]


def _condition_tag(value: Any) -> str | None:
    if isinstance(value, str):
        return "clean"
    if isinstance(value, dict):
        return next((tag for tag in ("shift", "attack", "chain") if tag in value), None)
    return next((tag for tag in ("shift", "attack", "chain") if hasattr(value, tag)), None)


Step: TypeAlias = Annotated[
    Annotated[ShiftCondition, Tag("shift")] | Annotated[AttackCondition, Tag("attack")],
    Discriminator(
        _condition_tag, custom_error_type="step", custom_error_message="expected {shift: ...} or {attack: ...}"
    ),
]
Condition: TypeAlias = Annotated[
    Annotated[Literal["clean"], Tag("clean")]
    | Annotated[ShiftCondition, Tag("shift")]
    | Annotated[AttackCondition, Tag("attack")]
    | Annotated[ChainCondition, Tag("chain")],
    Discriminator(
        _condition_tag,
        custom_error_type="condition",
        custom_error_message="expected clean, {shift: ...}, {attack: ...} or {chain: [...]}",
    ),
]


class Calibrator(Use):
    """A calibrator, and the condition of the calibration split that it is fitted on."""

    name: Name | None = None
    fit: Condition = "clean"


class Tune(_Strict):
    """Hyper-parameters chosen by AUROC between the calibration split and a tuning OOD set that is never scored.

    on     the tuning set: any data set that can be an OOD set
    sweep  parameter -> values to try; left out: the published sweep of the method
    """

    on: Ref
    limit: Size | None = 1000
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] | None = None


class Detector(Use):
    """A detector, the split it is fitted on (default: the one its method states), and what tunes it, if anything."""

    name: Name | None = None
    fit: Literal["train", "calibration"] | None = None
    tune: Tune | None = None


class Ood(BaseModel):
    """One or more out-of-distribution sets, each optionally under a condition."""

    model_config = ConfigDict(extra="allow", frozen=True)
    use: Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]
    name: Name | None = None
    group: str = ""
    limit: Size | None = None
    condition: Condition = "clean"

    @property
    def params(self) -> dict[str, Any]:
        """The data set's parameters."""
        return dict(self.model_extra or {})


class Runtime(_Strict):
    """What decides the bits of a result beside the work itself; all of it enters the digests."""

    batch: Size = 250
    shard: Size = 1000
    threads: Annotated[int, Field(ge=1, le=1024), BeforeValidator(no_truth)] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Intervals(_Strict):
    """Confidence intervals: level, and bootstrap replicates where no analytic interval is exact enough."""

    level: Annotated[Real, Field(gt=0.5, lt=1)] = 0.95
    replicates: Annotated[int, Field(ge=20, le=100_000), BeforeValidator(no_truth)] = 1000


Names: TypeAlias = Annotated[list[str | int | float], BeforeValidator(_listed)]


class Filter(_Strict):
    """Cells by the columns of results.parquet; a value may be a list."""

    dataset: Names | None = None
    model: Names | None = None
    train_seed: Names | None = None
    condition: Names | None = None
    kind: Names | None = None
    severity: Names | None = None
    norm: Names | None = None
    eps: Annotated[list[Real], BeforeValidator(_listed)] | None = None
    victim: Names | None = None
    calibrator: Names | None = None
    detector: Names | None = None
    ood_set: Names | None = None
    group: Names | None = None
    metric: Names | None = None
    seed: Names | None = None


class Grid(File):
    """An experiment: every data set x model x condition x calibrator x detector x metric, less what is excluded."""

    name: FolderName
    seed: Seeds = [0]
    protocol: str = ""
    data: Annotated[list[Annotated[Data, BeforeValidator(_use)]], BeforeValidator(_listed), Field(min_length=1)]
    models: Annotated[list[Annotated[Model, BeforeValidator(_use)]], BeforeValidator(_listed), Field(min_length=1)]
    train_seeds: Seeds = [0]
    conditions: Annotated[list[Condition], BeforeValidator(_listed), Field(min_length=1)] = ["clean"]
    calibrators: Annotated[
        list[Annotated[Calibrator, BeforeValidator(_use)]], BeforeValidator(_listed), Field(min_length=1)
    ] = [Calibrator(use="none")]
    detectors: Annotated[list[Annotated[Detector, BeforeValidator(_use)]], BeforeValidator(_listed)] = []
    ood: Annotated[list[Annotated[Ood, BeforeValidator(_use)]], BeforeValidator(_listed)] = []
    compare: str | None = None
    slices: Annotated[list[Literal["class", "group"]], BeforeValidator(_listed)] = []
    full_spectrum: bool | Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)] = False
    metrics: Refs = [Use(use=name) for name in ("accuracy", "ece", "nll", "brier")]
    include: Annotated[list[Filter], BeforeValidator(_listed)] = []
    exclude: Annotated[list[Filter], BeforeValidator(_listed)] = []
    keep: Literal["outputs", "inputs", "all"] = "outputs"
    audit: Literal["basic", "full"] = "basic"
    runtime: Runtime = Runtime()
    intervals: Intervals = Intervals()


#: One entry by bare name or as a mapping, for files other than a grid.
DataRef: TypeAlias = Annotated[Data, BeforeValidator(_use)]
ModelRef: TypeAlias = Annotated[Model, BeforeValidator(_use)]
CalibratorRef: TypeAlias = Annotated[Calibrator, BeforeValidator(_use)]
