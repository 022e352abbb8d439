"""Sets for `testbed export`: of a data set under a shift, or of a grid under one of its conditions.

Both give batches, so that memory does not grow with the number of images, and an `About` that says how to remake them.
Two cases hold the whole set: a data set that can only be read whole, and a shift of sets (label shift and the like).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from testbed.data import splits
from testbed.data.base import check_part, fingerprint
from testbed.data.export import About
from testbed.digest import digest
from testbed.errors import DataError, UsageError
from testbed.grid.plan import Plan, Preview
from testbed.perturb.shift import Shift
from testbed.plugins import Plugin
from testbed.runner import driver
from testbed.runner.operations import access, reads
from testbed.runner.operations.sets import at_rest, quantised
from testbed.runner.run import OPERATION, prepare_store
from testbed.runner.serial import Serial
from testbed.runner.worker import Setting
from testbed.store import Store
from testbed.types import Examples

#: Examples a batch holds.
BATCH = 500


@dataclass(frozen=True)
class Source:
    """An installed data set with its parameters, and which of its examples: a part, at most `limit` drawn by `seed`."""

    plugin: Plugin
    params: Mapping[str, Any]
    part: str | None = None
    limit: int | None = None
    seed: int = 0

    def batches(self) -> tuple[Iterator[Examples], dict[str, Any]]:
        """The examples in id order, and what decides them."""
        dataset = self.plugin.build(**self.params)
        sizes = dict(dataset.sizes())
        if self.part is not None:
            check_part(self.part, sizes, self.plugin.name)
            sizes = {self.part: sizes[self.part]}
        draw = splits.whole(sizes, self.limit)
        identity = {**self.plugin.identity(), "params": dict(self.params), "fingerprint": fingerprint(dataset)}
        made = {"dataset": self.plugin.name, "part": draw.part, "of": draw.size, "fingerprint": digest(identity)}
        return self._read(dataset, draw), made

    def _read(self, dataset: Any, draw: splits.Draw) -> Iterator[Examples]:
        rows = splits.rows(draw, self.seed)
        whole = None if hasattr(dataset, "load_rows") else dataset.load(draw.part)
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            yield dataset.load_rows(draw.part, chosen) if whole is None else whole.take(chosen)


def of_dataset(source: Source, shift: Shift | None, name: str, license: str) -> tuple[Iterator[Examples], About]:
    """A data set, under a shift where one is given."""
    batches, origin = source.batches()
    made: dict[str, Any] = {"seed": source.seed}
    if shift is not None:
        made |= {"shift": {**shift.plugin.identity(), "params": dict(shift.params)}, "severity": shift.severity}
        batches = shifted(batches, shift, source.seed)
    return batches, About(name, _spelled(origin), made, license or About.license)


def shifted(batches: Iterator[Examples], shift: Shift, seed: int) -> Iterator[Examples]:
    """The batches under a shift; a shift of sets gets them all at once."""
    if shift.plugin.facts["level"] != "example":
        parts = list(batches)
        yield shift.on(joined(parts), seed=seed)
        return
    for batch in batches:
        yield shift.on(batch, seed=seed)


def joined(parts: list[Examples]) -> Examples:
    """One set of several with one spec; groups are kept where all have them."""
    import numpy as np

    x, y, ids = (np.concatenate([getattr(p, name) for p in parts]) for name in ("x", "y", "ids"))
    groups = [p.groups for p in parts if p.groups is not None]
    return Examples(
        x, y, ids, parts[0].spec, np.concatenate(groups) if len(groups) == len(parts) else None, parts[0].group_names
    )


def pick(plan: Plan, wanted: Mapping[str, Any]) -> tuple[Preview, dict[str, Any]]:
    """The one perturbed set of the plan whose row has these values; the condition by its name, label or id.

    Raises UsageError that lists what there is where none or several sets fit.
    """
    rows = {sample.digest: sample.row for sample in plan.samples}
    named = [
        (preview, {**rows[preview.samples], "model": preview.model, "label": preview.condition})
        for preview in plan.previews
    ]
    found = {preview.perturbed: (preview, row) for preview, row in named if _fits(row, wanted)}
    if len(found) == 1:
        return next(iter(found.values()))
    columns = ("dataset", "model", "label", "seed", "train_seed")
    shown = sorted({", ".join(f"{c}={row[c]}" for c in columns if row[c] is not None) for _, row in named})
    asked = ", ".join(f"{key}={value}" for key, value in wanted.items() if value is not None) or "nothing"
    raise UsageError(
        f"{len(found)} sets of the grid fit {asked}; name one with --condition (a name or a label), and --dataset, "
        "--model, --seed where needed:\n  " + "\n  ".join(shown[:40]) + ("\n  ..." if len(shown) > 40 else "")
    )


def _fits(row: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    given = {key: value for key, value in wanted.items() if value is not None}
    condition = given.pop("condition", None)
    return condition in (None, row["condition"], row["label"], row["condition_id"]) and all(
        row[k] == v for k, v in given.items()
    )


def of_grid(
    plan: Plan, preview: Preview, row: Mapping[str, Any], store: Store, license: str, rounded: bool
) -> tuple[Iterator[Examples], About]:
    """A perturbed set of a grid, made now where the store does not hold it (any more)."""
    make(plan, preview, store)
    steps, origin = _history(plan, preview.perturbed[0])
    columns = ("dataset", "condition", "kind", "severity", "norm", "eps", "victim", "model", "train_seed", "seed")
    shared = () if any("attack" in step for step in steps) else ("model", "train_seed")
    made = {name: row[name] for name in columns if row.get(name) is not None and name not in shared}
    if rounded:
        made["quantised"] = "rounded to 8 bits"
    name = f"{plan.name} {row['dataset']} {preview.condition}"
    about = About(name, _spelled(origin), {**made, "steps": steps}, license or About.license)
    parts = access.shards(store, preview.perturbed)
    return (_rounded(part) if rounded else part for part in parts), about


def make(plan: Plan, preview: Preview, store: Store) -> None:
    """Run the jobs that the set needs; one whose images were dropped is made again."""
    prepare_store(plan, store)
    for digest_, manifest in store.manifests(preview.perturbed).items():
        if manifest.dropped:
            store.set_aside(digest_)
    options = driver.Options(reads=reads, results=frozenset({"inputs", "data"}))
    workers = driver.OnDemand(lambda: Serial(Setting(OPERATION, store.url), None))
    outcome = driver.run(plan.jobs, preview.perturbed, store, workers, options)
    if not outcome.ok:
        errors = sorted({str(message) for message in outcome.errors().values()})
        raise DataError(f"the set could not be made: {'; '.join(errors[:3])}")


def _history(plan: Plan, digest_: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What was done to the set, in order, and where it is from."""
    steps: list[dict[str, Any]] = []
    job = plan.jobs[digest_]
    while job.kind != "split":
        taken, own = ("shift", "attack", "norm", "eps", "seed", "victim"), job.recipe
        if job.kind == "level":
            job = plan.jobs[job.inputs["sweep"][0]]
        recipe = {**job.recipe, **own}
        steps.insert(0, {key: recipe[key] for key in taken if key in recipe} | {"op": job.kind})
        job = plan.jobs[job.inputs["set"][0]]
    known = {key: job.recipe[key] for key in ("dataset", "fingerprint")}
    origin = {key: job.recipe[key] for key in ("split", "counts", "limit", "seed")}
    return steps, {"dataset": job.recipe["dataset"]["use"], **origin, "fingerprint": digest(known)}


def _rounded(batch: Examples) -> Examples:
    if batch.spec.layout != "chw":
        return batch
    return replace(batch, x=quantised(batch.x), spec=at_rest(batch.spec))


def _spelled(origin: Mapping[str, Any]) -> str:
    """One line for `isBasedOn`.

    >>> _spelled({"dataset": "digits", "part": "all", "limit": None})
    'digits (part all)'
    """
    rest = ", ".join(f"{key} {value}" for key, value in origin.items() if key != "dataset" and value is not None)
    return f"{origin['dataset']} ({rest})"
