"""Making jobs: each method plans one kind of work and returns the digests that later work reads.

A recipe holds everything that decides a result and nothing else. Bump a kind's version below whenever what its
operation computes changes: that is the only way old artifacts are known to be old.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from testbed.digest import canonical, digest_bytes
from testbed.grid import second
from testbed.grid.model import Grid
from testbed.grid.resolved import Bound, CalibratorEntry, DataEntry, DetectorEntry, ModelEntry, OodEntry, Step
from testbed.types import Job

#: Operation -> version. Part of every digest.
VERSIONS: Final[Mapping[str, int]] = {
    "describe": 1, "file": 1, "split": 1, "ood": 1, "weights": 1, "train": 1, "shift": 1, "attack": 4, "quantise": 1,
    "forward": 2, "worst": 3, "calibrate": 2, "bank": 2, "detect": 2, "score": 2, "score_ood": 1, "audit": 2,
    "samples": 3, "score_transfer": 1, "bank_network": 1, "detect_network": 1, "detect_worst": 1, "replay": 2,
    "score_pooled": 1, "score_failures": 1, "over_seeds": 1, "tune": 1,
    "score_groups": 1, "aggregate": 2, "recalibrated": 2,
    "curve": 2, "score_frames": 1, "restarts": 2, "sweep": 2, "level": 1, "recorded": 1,
}  # fmt: skip


@dataclass(frozen=True)
class SetRef:
    """A planned set: the artifacts that hold it in id order, its size, and into how many shards it is cut.

    n and parts are None where only a job can tell (a user's own data set).
    """

    digests: tuple[str, ...]
    n: int | None
    parts: int | None
    attacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelRef:
    """A planned model: its entry, its training seed (None where nothing is trained), and the jobs it needs.

    weights  one job, or one a member of an ensemble
    """

    entry: ModelEntry
    train_seed: int | None
    weights: tuple[str, ...]
    describe: str


@dataclass(frozen=True)
class Shard:
    """One shard of a set for a job: its number, the job's inputs, its place in a whole artifact, size and label."""

    number: int
    inputs: Mapping[str, Sequence[str]]
    part: int | None
    n: int | None
    label: str


class Jobs:
    """The jobs planned so far, each once."""

    def __init__(self, grid: Grid, places: Mapping[str, str]) -> None:
        self.grid = grid
        self.places = dict(places)
        self.users = False
        self._noted: dict[int, Bound] = {}
        self.jobs: dict[str, Job] = {}
        self.sources: dict[str, str] = {}
        self.files: dict[str, str] = {}

    def add(
        self,
        kind: str,
        fields: Mapping[str, Any],
        inputs: Mapping[str, Sequence[str]],
        label: str,
        cost: Mapping[str, int | None] | None = None,
        gpus: float = 0.0,
        model: str = "",
    ) -> str:
        """The digest of this job, planned now or before."""
        taken = {role: tuple(digests) for role, digests in inputs.items() if digests}
        recipe = {"op": kind, "version": VERSIONS[kind], **fields, "inputs": taken}
        digest = digest_bytes(canonical(recipe).encode())
        if digest not in self.jobs:
            known = {name: int(value) for name, value in (cost or {}).items() if value}
            threads = self.grid.runtime.threads if "runtime" in fields else 1
            places = places_of(recipe, self.places) if self.users else {}
            self.jobs[digest] = Job(digest, kind, recipe, taken, label, known, float(threads), gpus, model, places)
        return digest

    def code(self, bound: Bound) -> dict[str, Any]:
        """The recipe of a plug-in; what a user's code consists of is noted, so that it travels."""
        if bound.plugin.foreign and id(bound) not in self._noted:
            self.users = True
            self._noted[id(bound)] = bound
            self.sources |= bound.plugin.sources
            self.places |= bound.places
        return bound.recipe()

    @cached_property
    def runtime(self) -> dict[str, Any]:
        """What decides the bits of a torch job beside its inputs."""
        asked = self.grid.runtime
        return {"threads": asked.threads, "batch": asked.batch, "device": self.device, "torch": torch_version()}

    @cached_property
    def device(self) -> str:
        """The device class; `auto` is cuda where there is an NVIDIA device and a torch that can use it."""
        if self.grid.runtime.device != "auto":
            return self.grid.runtime.device
        return "cuda" if Path("/dev/nvidia0").exists() and not torch_version().endswith("+cpu") else "cpu"

    @property
    def gpus(self) -> float:
        """GPUs that a torch job declares."""
        return 1.0 if self.device == "cuda" else 0.0

    def parts(self, n: int | None) -> int | None:
        """Number of shards of a set of n examples."""
        return None if n is None else max(1, math.ceil(n / self.grid.runtime.shard))

    def describe(self, data: DataEntry) -> str:
        """Spec and part sizes of a data set, from its own code."""
        return self.add(
            "describe",
            {"dataset": self.code(data.bound), "fingerprint": dict(data.fingerprint)},
            {},
            f"describe {data.name}",
        )

    def split(self, data: DataEntry, name: str, seed: int) -> SetRef:
        """One named split of a data set."""
        from testbed.data.splits import split_plan

        n = None
        if data.sizes:
            counts = data.counts
            draws = split_plan(
                data.sizes,
                train=counts["train"],
                calibration=counts["calibration"],
                test=counts["test"],
                limit=data.limit,
            )
            n = draws[name].count
        fields = {
            "split": name,
            "counts": dict(data.counts),
            "limit": data.limit,
            "seed": seed,
            "shard": self.grid.runtime.shard,
        }
        size = math.prod(data.spec.shape) * n if data.spec and n else None
        recipe = {"dataset": self.code(data.bound), "fingerprint": dict(data.fingerprint), **fields}
        describe = self.describe(data)
        digest = self.add("split", recipe, {"describe": [describe]}, f"{data.name}:{name}", {"bytes": size})
        return SetRef((digest,), n, self.parts(n))

    def ood(self, entry: OodEntry, data: DataEntry, seed: int) -> SetRef:
        """An out-of-distribution set, brought to the size and channels of the in-distribution one."""
        given = self.split(data, "test", seed) if entry.source == "id" else None
        size = given.n if given else entry.size
        n = min(entry.limit or size, size) if size else entry.limit
        fields = {"limit": entry.limit, "seed": seed, "shard": self.grid.runtime.shard}
        recipe = {"dataset": self.code(entry.bound), "fingerprint": dict(entry.fingerprint), **fields}
        digest = self.add(
            "ood",
            recipe,
            {"describe": [self.describe(data)], "set": given.digests if given else ()},
            f"ood {entry.name}",
        )
        return SetRef((digest,), n, self.parts(n))

    def model(self, entry: ModelEntry, data: DataEntry, seed: int, train_seed: int) -> ModelRef:
        """A network with its weights: trained (an ensemble from seeds of its own), read from a file, or as built."""
        if entry.recorded:
            return ModelRef(entry, None, (), self.describe(data))
        variant = entry.variant or {}
        if variant.get("kind") == "ensemble":
            first = train_seed * variant["count"]
            alone = replace(entry, variant=None)
            members = [self.model(alone, data, seed, first + i) for i in range(variant["count"])]
            return ModelRef(entry, train_seed, tuple(m.weights[0] for m in members), members[0].describe)
        describe = self.describe(data)
        code = self.code(entry.bound)
        if entry.train is None:
            file = []
            if entry.weights is not None and entry.weights_digest is not None:
                file = [self.add("file", {"content": entry.weights_digest}, {}, f"file {entry.weights.name}")]
                self.files[file[0]] = str(entry.weights)
            built: dict[str, Any] = {"model": code, "torch": torch_version()}
            return ModelRef(
                entry,
                None,
                (self.add("weights", built, {"describe": [describe], "file": file}, f"weights {entry.name}"),),
                describe,
            )
        train = self.split(data, "train", seed)
        runtime = {**self.runtime, "batch": None}
        work = {"forward": (train.n or 0) * entry.train["epochs"], "gradient": (train.n or 0) * entry.train["epochs"]}
        fields = {"model": code, "train": dict(entry.train), "seed": train_seed, "runtime": runtime}
        fields |= {"reading": dict(entry.reading)} if entry.reading else {}
        digest = self.add(
            "train",
            fields,
            {"describe": [describe], "set": train.digests},
            f"train {entry.name} seed {train_seed}",
            work,
            self.gpus,
        )
        return ModelRef(entry, train_seed, (digest,), describe)

    def network(self, model: ModelRef) -> dict[str, Any]:
        """The recipe of a model's code, for the jobs that run it."""
        variant = {"variant": dict(model.entry.variant)} if model.entry.variant else {}
        reading = {"reading": dict(model.entry.reading)} if model.entry.reading else {}
        return {"model": self.code(model.entry.bound), "feature_layer": model.entry.feature_layer, **variant, **reading}

    def shift(self, target: SetRef, step: Step, seed: int) -> SetRef:
        """A shifted set: one for all models. Only a job can tell how many examples a shift of the set leaves."""
        label = f"{step.bound.plugin.name} s{step.severity:g}" if step.severity is not None else step.bound.plugin.name
        fields = {
            "shift": self.code(step.bound),
            **second.content(step),
            "seed": seed,
            "shard": self.grid.runtime.shard,
        }
        digest = self.add("shift", fields, {"set": target.digests}, label)
        alone = step.bound.plugin.facts["level"] == "example"
        return SetRef((digest,), target.n if alone else None, target.parts if alone else None)

    def attack(
        self,
        target: SetRef,
        step: Step,
        model: ModelRef,
        seed: int,
        victim: Mapping[str, Any],
        extra: Mapping[str, Sequence[str]],
        along: Mapping[str, SetRef] | None = None,
    ) -> SetRef:
        """An attacked set: one job a shard, so that work spreads and little is lost.

        along   by role, attacks on the same target that are read shard by shard
        """
        fields = {"attack": self.code(step.bound), "eps": step.eps, **self._attacking(step, model, seed, victim)}
        digests = []
        for shard in self._shards(target):
            inputs = {**shard.inputs, "weights": model.weights, "describe": [model.describe], **extra}
            inputs |= {role: (other.attacks[shard.number],) for role, other in (along or {}).items()}
            label, cost = f"{_attack_label(step, model, step.eps)}{shard.label}", attack_cost(step, shard.n)
            digests.append(self.add("attack", {**fields, "part": shard.part}, inputs, label, cost, self.gpus))
        return self._attacked(target, step, digests)

    def sweep(
        self,
        target: SetRef,
        step: Step,
        model: ModelRef,
        seed: int,
        victim: Mapping[str, Any],
        extra: Mapping[str, Sequence[str]],
    ) -> list[str]:
        """All budgets of a security curve, one job a shard."""
        code = self.code(step.bound)
        code["params"] = {name: value for name, value in code["params"].items() if name != "eps"}
        fields = {"attack": code, "eps": list(step.curve), **self._attacking(step, model, seed, victim)}
        digests = []
        for shard in self._shards(target):
            inputs = {**shard.inputs, "weights": model.weights, "describe": [model.describe], **extra}
            label = f"sweep of {_attack_label(step, model, *step.curve)}{shard.label}"
            cost = {name: value and 2 * value for name, value in attack_cost(step, shard.n).items()}
            digests.append(self.add("sweep", {**fields, "part": shard.part}, inputs, label, cost, self.gpus))
        return digests

    def level(self, sweep: Sequence[str], target: SetRef, step: Step, model: ModelRef) -> SetRef:
        """The set that a sweep leaves at one of its budgets."""
        label = _attack_label(step, model, step.eps)
        digests = [self.add("level", {"eps": step.eps}, {"sweep": [one]}, label) for one in sweep]
        return self._attacked(target, step, digests)

    def _attacking(self, step: Step, model: ModelRef, seed: int, victim: Mapping[str, Any]) -> dict[str, Any]:
        """What decides an attack beside the plug-in and its budget."""
        own = {"norm": step.norm, "seed": seed, "victim": dict(victim), "runtime": self.runtime}
        return {**self.network(model), **own, **fresh_draws(step)}

    def _shards(self, target: SetRef) -> Iterator[Shard]:
        count, size = target.parts or 1, self.grid.runtime.shard
        for number in range(count):
            n = None if target.n is None else min(size, target.n - number * size)
            source = target.digests if len(target.digests) == 1 else (target.digests[number],)
            part = number if target.parts and len(target.digests) == 1 else None
            yield Shard(number, {"set": source}, part, n, f" [{number + 1}/{count}]" if count > 1 else "")

    def _attacked(self, target: SetRef, step: Step, digests: Sequence[str]) -> SetRef:
        done = SetRef(tuple(digests), target.n, target.parts, tuple(digests))
        if not step.quantised:
            return done
        rounded = self.add(
            "quantise", {"shard": self.grid.runtime.shard}, {"set": done.digests}, f"8-bit {step.bound.plugin.name}"
        )
        return SetRef((rounded,), target.n, target.parts, tuple(digests))

    def forward(self, model: ModelRef, target: SetRef, label: str) -> str:
        """Logits and features of one model on one set."""
        if model.entry.recorded:
            system = {"system": model.entry.bound.params["system"]}
            inputs = {"set": target.digests, "describe": [model.describe]}
            return self.add("recorded", system, inputs, f"outputs of {model.entry.name} on {label}")
        fields = {**self.network(model), "runtime": self.runtime}
        inputs = {"set": target.digests, "weights": model.weights, "describe": [model.describe]}
        passes = (target.n or 0) * (model.entry.variant or {}).get("count", 1)
        name = model.entry.name
        label = f"forward {name} on {label}"
        return self.add("forward", fields, inputs, label, {"forward": passes}, self.gpus, name)

    def worst(self, outputs: Sequence[str], ledgers: Sequence[Sequence[str]], label: str) -> str:
        """Per example, the first attack that fools, else the highest loss."""
        inputs = {"outputs": outputs} | {f"ledger{i}": digests for i, digests in enumerate(ledgers)}
        fields: dict[str, Any] = {"rule": "first fooled, else highest loss", "attacks": len(outputs)}
        return self.add("worst", fields, inputs, label)

    def calibrate(self, entry: CalibratorEntry, outputs: str, label: str, target: str | None = None) -> str:
        """A calibrator fitted on labelled outputs, and on those of a target set without their labels."""
        inputs = {"outputs": [outputs], "target": [target] if target else []}
        return self.add("calibrate", {"calibrator": self.code(entry.bound)}, inputs, f"fit {entry.name} for {label}")

    def bank(
        self,
        entry: DetectorEntry,
        outputs: str | None,
        calibrator: Mapping[str, Any],
        fitted: Sequence[str],
        label: str,
        tuned: Sequence[str] = (),
    ) -> str:
        """A fitted detector; `tuned` is the job that chose its parameters."""
        fields = {"detector": self.code(entry.bound), **calibrator}
        return self.add(
            "bank",
            fields,
            {"outputs": [outputs] if outputs else [], "calibrator": fitted, "tuned": tuned},
            f"fit {entry.name} for {label}",
        )

    def detect(
        self,
        entry: DetectorEntry,
        bank: str,
        outputs: str,
        calibrator: Mapping[str, Any],
        fitted: Sequence[str],
        label: str,
    ) -> str:
        """A detector's scores on one set of outputs."""
        fields = {"detector": self.code(entry.bound), **calibrator}
        return self.add(
            "detect",
            fields,
            {"bank": [bank], "outputs": [outputs], "calibrator": fitted},
            f"score {entry.name} on {label}",
        )

    def score(
        self,
        metrics: Sequence[Bound],
        outputs: str,
        calibrator: Mapping[str, Any],
        fitted: Sequence[str],
        seed: int,
        label: str,
    ) -> str:
        """The metrics of probabilities on one set, and on its parts where the grid asks for them."""
        fields = {**self.metrics(metrics, seed), **calibrator}
        if self.grid.slices:
            fields["slices"] = sorted(self.grid.slices)
        return self.add("score", fields, {"outputs": [outputs], "calibrator": fitted}, f"score {label}")

    def score_ood(self, metrics: Sequence[Bound], inside: str, outside: str, seed: int, label: str) -> str:
        """The metrics of two sets of detector scores."""
        return self.add("score_ood", self.metrics(metrics, seed), {"id": [inside], "ood": [outside]}, f"score {label}")

    def metrics(self, metrics: Sequence[Bound], seed: int) -> dict[str, Any]:
        """The recipe of a list of metrics with their resamples."""
        return {"metrics": [self.code(m) for m in metrics], "seed": seed, "intervals": self.grid.intervals.model_dump()}

    def samples(
        self,
        outputs: str,
        ledger: Sequence[str],
        calibrators: Sequence[tuple[str, Mapping[str, Any], Sequence[str]]],
        detects: Sequence[tuple[str, str]],
        label: str,
        elsewhere: bool = False,
    ) -> str:
        """The rows of samples.parquet of one model under one condition; `elsewhere`: the ledger is another model's."""
        inputs: dict[str, Sequence[str]] = {"outputs": [outputs], "ledger": ledger}
        inputs |= {f"calibrator{i}": fitted for i, (_, _, fitted) in enumerate(calibrators)}
        inputs |= {f"detect{i}": [digest] for i, (_, digest) in enumerate(detects)}
        fields: dict[str, Any] = {
            "calibrators": [{"name": name, **code} for name, code, _ in calibrators],
            "detectors": [name for name, _ in detects],
        }
        if elsewhere:
            fields["ledger"] = "of another model"
        return self.add("samples", fields, inputs, f"samples {label}")


def places_of(recipe: Any, known: Mapping[str, str]) -> dict[str, str]:
    """The places of the users' code in a recipe (see `Job.places`); none where there is no such code."""
    if isinstance(recipe, (list, tuple)):
        return {key: path for one in recipe for key, path in places_of(one, known).items()}
    if not isinstance(recipe, Mapping):
        return {}
    found = {key: path for one in recipe.values() for key, path in places_of(one, known).items()}
    if "use" in recipe and "source" in recipe:
        keys = [recipe["source"], *recipe.get("modules", {}).values()]
        keys += [f"{recipe['source']}:{name}" for name in recipe.get("reads", {})]
        found |= {key: known[key] for key in keys if key in known}
    elif "use" in recipe and "distribution" in recipe:
        found[recipe["use"]] = recipe["distribution"]
    return found


def _attack_label(step: Step, model: ModelRef, *eps: float | None) -> str:
    """The attack, at its budget or from the first to the last, and the model."""
    budgets = " to ".join(f"{one:.4g}" for one in dict.fromkeys((eps[0], eps[-1])))
    return f"{step.bound.plugin.name} {step.norm} {budgets} on {model.entry.name}"


def attack_cost(step: Step, n: int | None) -> dict[str, int | None]:
    """Expected evaluations: what the attack says of itself an example (`budget`), else steps x restarts x eot."""
    if n is None:
        return {}
    params = step.bound.params
    gradients = math.prod(int(params.get(name) or 1) for name in ("steps", "restarts", "eot"))
    forwards = gradients
    if step.bound.plugin.source is None:
        budget = getattr(step.bound.plugin.build(**params), "budget", None)
        if budget is not None:
            forwards, gradients = budget
    return {"forward": n * (forwards + 2), "gradient": n * gradients}


def fresh_draws(step: Step) -> dict[str, int]:
    """How many passes of a randomised model decide, where a built-in attack says more than one; part of its recipe."""
    if step.bound.plugin.source is not None:
        return {}
    count = int(getattr(step.bound.plugin.build(**step.bound.params), "fresh_draws", 1))
    return {"fresh_draws": count} if count > 1 else {}


def torch_version() -> str:
    """The installed torch, without importing it."""
    try:
        return version("torch")
    except PackageNotFoundError:
        return "none"
