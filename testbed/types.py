"""The nouns of the testbed: what a set is, what a model gives, what a job is, what a row says.

Import-light: numpy only. Shapes use n examples, k classes, d features, h w c image axes.

Conventions that hold everywhere
- Images at rest and in shifts: uint8 numpy `[n h w c]`. Models and attacks: float32 torch `[n c h w]` in [0, 1].
- Attacked sets stay float32 `[n c h w]` when kept (`Spec.layout` says which it is).
- `ids` are int64 example ids, unique in a data set over all its splits; sets are stored in id order.
- A detector's score is larger for more out-of-distribution; a confidence is larger for more certain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.floating[Any]]
Float64: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

Kind = Literal["image", "tabular", "series"]
Norm = Literal["linf", "l2", "l1", "l0"]


@dataclass(frozen=True)
class Spec:
    """What every example of a set looks like.

    shape   of one example as stored: image `(h, w, c)`, tabular `(features,)`, series `(time, channels)`
    layout  axis names of `shape`: "hwc", "chw" (attacked images at rest), "f", "tc"
    bounds  `(low, high)` of the values a model sees: one pair for all features, or one a feature
    """

    kind: Kind
    shape: tuple[int, ...]
    classes: int
    dtype: Literal["uint8", "float32"] = "uint8"
    layout: Literal["hwc", "chw", "f", "tc"] = "hwc"
    bounds: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    categorical: tuple[int, ...] = ()
    class_names: tuple[str, ...] = ()

    @property
    def model_shape(self) -> tuple[int, ...]:
        """Shape of one example as a model takes it: images and series channels first.

        >>> Spec("image", (28, 32, 3), classes=10).model_shape
        (3, 28, 32)
        """
        if self.layout == "hwc":
            return (self.shape[2], self.shape[0], self.shape[1])
        return (self.shape[1], self.shape[0]) if self.layout == "tc" else self.shape

    def attacked(self) -> Spec:
        """The spec of this set after an attack: float32 in the model's own layout."""
        if self.layout != "hwc":
            return replace(self, dtype="float32")
        return replace(self, dtype="float32", layout="chw", shape=self.model_shape)


@dataclass(frozen=True)
class Examples:
    """A set at rest: `x` as `spec` says, `y` int64 `[n]` (-1 where there is no label), `ids` int64 `[n]`.

    `groups` int64 `[n]` where the set has subpopulations (`group_names` by index).
    """

    x: Array
    y: Ints
    ids: Ints
    spec: Spec
    groups: Ints | None = None
    group_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Array | slice) -> Examples:
        """The examples at these positions (or mask)."""
        return replace(
            self,
            x=self.x[rows],
            y=self.y[rows],
            ids=self.ids[rows],
            groups=None if self.groups is None else self.groups[rows],
        )


@dataclass(frozen=True)
class Outputs:
    """What one model gives on one set; everything after the forward pass works from this.

    logits       float32 `[n k]`, before softmax
    features     float32 `[n d]`, the input of the last linear layer, or None where the model has none
    labels       int64 `[n]`, -1 where unknown
    head_weight  float32 `[k d]`, head_bias float32 `[k]`: that layer; logits = features @ head_weight.T + head_bias
    """

    logits: Floats
    features: Floats | None = None
    labels: Ints | None = None
    ids: Ints | None = None
    head_weight: Floats | None = None
    head_bias: Floats | None = None
    groups: Ints | None = None

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def answered(self) -> Array:
        """bool `[n]`: rows whose logits are an answer; without NaN, without +inf, and not all masked (-inf)."""
        found: Array = np.isfinite(np.asarray(self.logits).max(axis=1))
        return found

    @property
    def predicted(self) -> Array:
        """int64 `[n]`: the predicted class, -1 where there is no answer: no label is that, so it is never right.

        >>> Outputs(np.array([[0.0, 1.0], [np.nan, 1.0]])).predicted.tolist()
        [1, -1]
        """
        return np.where(self.answered, np.asarray(self.logits).argmax(axis=1), -1)

    def take(self, rows: Array | slice) -> Outputs:
        """The outputs at these positions (or mask); the head stays whole."""

        def part(values: Any) -> Any:
            return None if values is None else values[rows]

        return replace(
            self,
            logits=self.logits[rows],
            features=part(self.features),
            labels=part(self.labels),
            ids=part(self.ids),
            groups=part(self.groups),
        )


#: Column name -> dtype of the ledger an attack leaves, one row an example (besides `ids`).
#: first_step -1 = never fooled, 0 = wrong before the attack; stage = which part of a cascade first fooled it, 0 where
#: the attack is one, -1 where none did; distance in the attack's norm; margin = z_y - max other z after the attack
#: (negative = fooled); loss = cross-entropy after it; queries and gradients are counted, not claimed.
LEDGER: Mapping[str, str] = {
    "success": "bool",
    "first_step": "int32",
    "stage": "int16",
    "gradients": "int64",
    "queries": "int64",
    "distance": "float32",
    "margin": "float32",
    "loss": "float32",
    "confidence_before": "float32",
    "confidence_after": "float32",
    "flags": "int32",
}

#: Bits of the ledger's `flags` column.
FLAG_CLIPPED, FLAG_PROJECTED, FLAG_FAILED, FLAG_ZERO_GRADIENT, FLAG_BAD_GRADIENT, FLAG_NO_ANSWER = 1, 2, 4, 8, 16, 32


@dataclass(frozen=True)
class Paper:
    """Where a method comes from; `testbed ls --bibtex` prints it."""

    title: str
    authors: str
    year: int
    venue: str = ""
    arxiv: str = ""

    def bibtex(self) -> str:
        """The BibTeX entry of this paper."""
        key = self.authors.split(",")[0].split(" ")[-1].lower() + str(self.year)
        rows = {
            "title": self.title,
            "author": self.authors,
            "year": str(self.year),
            "booktitle": self.venue,
            "eprint": self.arxiv,
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in rows.items() if value)
        return f"@{'inproceedings' if self.venue else 'misc'}{{{key},\n{body}\n}}"


@dataclass(frozen=True)
class Job:
    """One unit of work, frozen before anything runs.

    digest    content digest of `recipe`
    kind      which operation does it (`testbed.runner.operations`)
    recipe    every field that decides the result, in clear: parameters, digests of inputs under "inputs"
    inputs    role -> digests of the jobs whose artifacts it reads
    label     for people; not in the digest
    model     name of the model that it runs, "" where it runs none; not in the digest
    cost      expected number of example evaluations: {"forward": ..., "gradient": ..., "bytes": ...}
    places    of the users' code that it executes, if any: digest -> file on the disk of whoever planned, and
              "digest:NAME" -> file that is declared to be read; not in the digest. A job that has some runs apart
    """

    digest: str
    kind: str
    recipe: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    label: str = ""
    cost: Mapping[str, int] = field(default_factory=dict)
    cpus: float = 1.0
    gpus: float = 0.0
    model: str = ""
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs(self) -> tuple[str, ...]:
        """Digests of all input jobs, without repeats, in order."""
        return tuple(dict.fromkeys(d for digests in self.inputs.values() for d in digests))


#: What a cell can be: a number; no number because its job failed, took too long or was skipped (an input failed, or the
#: run was stopped by --max-failures); or not there because nothing ran it (interrupted, or not yet).
Status: TypeAlias = Literal["ok", "failed", "timeout", "skipped", "missing"]

#: The columns of results.parquet, in order: one metric value a row. Nothing in it differs between two honest runs.
#: `condition_id` is what a condition is, whatever it is called (`testbed.condition`); `metric_params` is JSON.
RESULTS_VERSION = 2
RESULTS: Mapping[str, str] = {
    "run": "string", "protocol": "string", "dataset": "string", "group": "string", "n": "int64",
    "model": "string", "variant": "string", "train_seed": "int64",
    "condition": "string", "kind": "string", "severity": "float64", "norm": "string", "eps": "float64",
    "victim": "string", "params": "string", "condition_id": "string",
    "calibrator": "string", "fit": "string",
    "detector": "string", "ood_set": "string", "ood_condition": "string",
    "metric": "string", "metric_params": "string", "convention": "string",
    "value": "float64", "ci_low": "float64", "ci_high": "float64",
    "seed": "int64", "status": "string", "error": "string", "flags": "string", "digest": "string",
}  # fmt: skip

#: regressions.parquet: what a calibrator changed against another (`compare`), one row per metric and part of a set.
#: verdict: better, worse, unclear (no difference found) or "too few to tell"; p_least: the least p that can come;
#: visible: the smallest change that a whole set shows, where none was found; differing: examples that differ.
#: lost, gained, moved: changed predictions (right to wrong, wrong to right, wrong to wrong), on the first row of a set.
REGRESSIONS_VERSION = 2
REGRESSIONS: Mapping[str, str] = {
    "dataset": "string", "model": "string", "variant": "string", "train_seed": "int64", "seed": "int64",
    "condition": "string", "kind": "string", "severity": "float64", "norm": "string", "eps": "float64",
    "victim": "string", "params": "string", "condition_id": "string",
    "before_calibrator": "string", "calibrator": "string", "fit": "string", "part": "string", "metric": "string",
    "n": "int64", "before": "float64", "after": "float64", "change": "float64", "low": "float64", "high": "float64",
    "p": "float64", "p_least": "float64", "p_holm": "float64", "test": "string", "differing": "int64",
    "visible": "float64", "verdict": "string", "silent": "bool", "lost": "int64", "gained": "int64",
    "moved": "int64", "convention": "string", "digest": "string",
}  # fmt: skip

#: samples.parquet: one row a (model, condition, example); the class decided for and its confidence are nested by
#: calibrator, scores by detector. `prediction` and `correct` are the uncalibrated model's. `fooled_by` is the attack
#: that first fooled the example, with the part of a cascade (`pgd`, `autoattack:apgd-t`). An out-of-distribution set
#: stands under its own name as data set, with label -1.
SAMPLES_VERSION = 4
SAMPLES: Mapping[str, str] = {
    "dataset": "string", "model": "string", "train_seed": "int64", "condition": "string",
    "condition_id": "string", "seed": "int64",
    "id": "int64", "label": "int64", "prediction": "int64", "correct": "bool",
    "success": "bool", "first_step": "int32", "fooled_by": "string", "gradients": "int64", "queries": "int64",
    "distance": "float32", "margin": "float32", "loss": "float32", "confidence_before": "float32", "flags": "int32",
    "decision": "map<string,int64>", "confidence": "map<string,float32>", "score": "map<string,float64>",
}  # fmt: skip

#: jobs.parquet: what it took; times, hosts and costs live here and only here.
JOBS_VERSION = 2
JOBS: Mapping[str, str] = {
    "digest": "string", "kind": "string", "label": "string", "model": "string", "status": "string", "attempts": "int32",
    "started": "timestamp[ms, UTC]", "seconds": "float64", "cpu_seconds": "float64", "peak_bytes": "int64",
    "host": "string", "pid": "int64", "forwards": "int64", "gradients": "int64", "bytes": "int64", "error": "string",
}  # fmt: skip

#: stream.parquet of `testbed monitor`, one number a row in the order of steps (`step`: how many examples were seen).
#: scope: rolling (last labelled examples), drift (a test of the last outputs), episode (a drift detected or missed),
#: update (a trial of an online calibrator), segment and stream (a whole one, by true labels), detector (its quality).
STREAM_VERSION = 1
STREAM: Mapping[str, str] = {
    "run": "string", "dataset": "string", "model": "string", "train_seed": "int64", "seed": "int64",
    "step": "int64", "segment": "int64", "condition": "string", "scope": "string",
    "calibrator": "string", "detector": "string", "metric": "string", "convention": "string",
    "value": "float64", "ci_low": "float64", "ci_high": "float64", "n": "int64", "alarm": "bool", "event": "string",
}  # fmt: skip


def arrow_schema(columns: Mapping[str, str], version: int) -> Any:
    """The pyarrow schema of one of the tables above, its version in the metadata."""
    import pyarrow as pa

    special = {
        "timestamp[ms, UTC]": pa.timestamp("ms", tz="UTC"),
        "map<string,int64>": pa.map_(pa.string(), pa.int64()),
        "map<string,float32>": pa.map_(pa.string(), pa.float32()),
        "map<string,float64>": pa.map_(pa.string(), pa.float64()),
    }
    fields = [
        pa.field(name, special[kind] if kind in special else pa.type_for_alias(kind)) for name, kind in columns.items()
    ]
    return pa.schema(fields, metadata={"testbed_schema_version": str(version)})
