"""Plan and store -> the tables of a run: results.parquet, samples.parquet and the image strip.

Rows are in plan order and hold nothing that differs between two honest runs. A cell whose job failed or was skipped is
a row with status and error, and without a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from testbed.condition import set_key, worst_id
from testbed.digest import digest
from testbed.errors import CorruptArtifact
from testbed.grid.plan import Cell, Plan, Preview, Sample
from testbed.perturb.checks import EFFORT
from testbed.provenance import cpu_class
from testbed.runner.doubts import model_flags, model_key
from testbed.runner.files import Made, beside, replace, replace_folder
from testbed.runner.operations.access import lottery
from testbed.runner.outcome import Absent
from testbed.store import Manifest, Store
from testbed.types import RESULTS, RESULTS_VERSION, SAMPLES, SAMPLES_VERSION, arrow_schema

STRIP = 8


@dataclass
class Scores:
    """Score artifacts by digest, read from the store once each: their manifests and their rows."""

    manifests: dict[str, Manifest] = field(default_factory=dict)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def read(self, digests: Iterable[str], store: Store) -> None:
        """Read those that are there and were not read before."""
        fresh = store.manifests(d for d in digests if d not in self.manifests)
        self.manifests |= fresh
        self.tables |= {d: store.table(d, "rows").to_pylist() for d, m in fresh.items() if "rows" in m.blobs}


def results(plan: Plan, store: Store, absent: Mapping[str, Absent] | None = None, scores: Scores | None = None) -> Any:
    """All cells as a pyarrow table (`testbed.types.RESULTS`); `absent` says why a digest is not there.

    A cell whose job has simply not been run yet has the status "missing". What `scores` holds is not read again.
    """
    import pyarrow as pa

    absent, scores = absent or {}, scores or Scores()
    scores.read(dict.fromkeys(cell.digest for cell in plan.cells), store)
    tables, audits = scores.tables, audit_flags(plan, scores.manifests)
    models = model_flags(plan.cells, scores.manifests, tables)
    columns: dict[str, list[Any]] = {name: [] for name in RESULTS}
    for cell in plan.cells:
        said = (models.get(model_key(cell.row), ""), audits.get(set_key(cell.row), ""))
        flags = ";".join(filter(None, (*said, undeclared_flag(scores.manifests.get(cell.digest)))))
        for row in cell_rows(cell, tables.get(cell.digest), absent.get(cell.digest), flags):
            for name, values in columns.items():
                values.append(row.get(name))
    return pa.table(columns, schema=with_cpu_class(arrow_schema(RESULTS, RESULTS_VERSION)))


def undeclared_flag(manifest: Manifest | None) -> str:
    """The flag of a number behind which a plug-in read what is not in its digest."""
    read = () if manifest is None else manifest.meta.get("undeclared", ())
    return f"undeclared_read({', '.join(str(one).replace(';', ',') for one in read)})" if read else ""


def with_cpu_class(schema: Any) -> Any:
    """The schema with this machine's CPU class in its metadata: on another one numbers move by rounding."""
    return schema.with_metadata({**(schema.metadata or {}), "testbed_cpu_class": cpu_class()})


def cell_rows(
    cell: Cell, table: list[dict[str, Any]] | None, absent: Absent | None, audit: str
) -> list[dict[str, Any]]:
    """The rows of one cell: one a convention, or one that says why there is no value."""
    row = {**cell.row, "digest": cell.digest, "flags": ";".join(filter(None, (cell.row.get("flags", ""), audit)))}
    if table is None or absent is not None:
        status, error = absent or Absent("missing", "")
        return [{**row, "status": status, "error": error or None}]
    found = [one for one in table if one["position"] == cell.metric]
    rows = []
    for one in found:
        flags = one["flags"] if row["metric"] == "audit" else ";".join(filter(None, (row["flags"], one["flags"])))
        values = {name: one[name] for name in ("convention", "value", "ci_low", "ci_high", "n")}
        part = {"group": one["group"]} if one.get("group") else {}
        failed = {"status": "failed", "error": one["error"]} if one.get("error") else {"status": "ok"}
        rows.append({**row, **values, **part, **failed, "flags": flags})
    return rows


def audit_flags(plan: Plan, there: Mapping[str, Any]) -> dict[tuple[Any, ...], str]:
    """For each attacked set "audit:pass" or "audit:fail(...)" with the failed checks.

    A worst case over attacks, and a mean over training seeds, has the failures of all, except that it tried too little
    only where all of them did.
    """
    own: dict[tuple[Any, ...], list[set[str]]] = {}
    for cell in plan.cells:
        if cell.row["metric"] == "audit" and cell.digest in there:
            names = set(there[cell.digest].meta["failed"])
            own.setdefault(set_key(cell.row), []).append(names)
            if cell.row["train_seed"] is not None:
                own.setdefault(set_key({**cell.row, "train_seed": None}), []).append(names)
            if cell.row["victim"] == "model" or str(cell.row["victim"]).startswith("bpda:"):
                worst = {**cell.row, "condition_id": worst_id(cell.row["norm"], cell.row["eps"])}
                own.setdefault(set_key(worst), []).append(names)
    failed = {key: set().union(*found) - (EFFORT - found[0].intersection(*found)) for key, found in own.items()}
    return {key: f"audit:fail({', '.join(sorted(names))})" if names else "audit:pass" for key, names in failed.items()}


def write_results(
    plan: Plan, store: Store, folder: Path, absent: Mapping[str, Absent], scores: Scores | None = None
) -> Any:
    """Write results.parquet and return the table."""
    import pyarrow.parquet as pq

    table = results(plan, store, absent, scores)
    replace(folder / "results.parquet", lambda path: pq.write_table(table, path, compression="zstd"))
    return table


def write_samples(plan: Plan, store: Store, folder: Path, outcome: Mapping[str, str], known: Made) -> dict[str, str]:
    """Write samples.parquet: a folder with one file a (model, condition) that is there; returns what each is made of.

    outcome  digest -> content hash of what is there
    known    what the files of the last run into this folder were made of: those of the same are kept as they are
    """
    import pyarrow.parquet as pq

    target, fresh = folder / "samples.parquet", beside(folder / "samples.parquet")
    fresh.mkdir(parents=True)
    made: dict[str, str] = {}
    for position, sample in enumerate(plan.samples):
        if sample.digest not in outcome:
            continue
        name = f"part-{position:05d}.parquet"
        made[name] = digest([SAMPLES_VERSION, sample_columns(sample), outcome[sample.digest]])
        if not known.keep(target, name, made[name], fresh):
            pq.write_table(sample_table(sample, store), fresh / name, compression="zstd")
    replace_folder(target, fresh)
    return made


def sample_columns(sample: Sample) -> dict[str, Any]:
    """The columns of samples.parquet that name the set."""
    kept = {name: sample.row[name] for name in ("dataset", "model", "train_seed", "seed", "condition_id")}
    return {"condition": sample.label, **kept}


def sample_table(sample: Sample, store: Store) -> Any:
    """One set's rows of samples.parquet."""
    import pyarrow as pa

    schema = arrow_schema(SAMPLES, SAMPLES_VERSION)
    part, named = store.table(sample.digest, "samples"), sample_columns(sample)
    n, have = part.num_rows, set(part.column_names)
    columns = [part.column(f.name) if f.name in have else pa.array([named.get(f.name)] * n, f.type) for f in schema]
    return pa.table(columns, schema=schema)


def write_images(plan: Plan, store: Store, folder: Path) -> None:
    """Write images/: a few clean and perturbed pairs of each (model, condition) whose previews are there."""
    from testbed.report.images import write_strip

    rows: list[dict[str, Any]] = []
    for preview in plan.previews:
        try:
            rows += strip(preview, store)
        except (CorruptArtifact, KeyError):
            continue  # not made (yet): the page shows the conditions that are there
    write_strip(folder / "images", rows)


def strip(preview: Preview, store: Store) -> list[dict[str, Any]]:
    """The first few examples of one (model, condition): images, label, prediction and confidence."""
    clean, perturbed = previews(preview.clean, store), previews(preview.perturbed, store)
    meta = store.require(preview.clean[0]).meta
    if meta["spec"]["kind"] != "image":
        return []
    chosen = sorted(clean.keys() & perturbed.keys(), key=lambda one: int(lottery(np.array([one]))[0]))[:STRIP]
    table = store.table(preview.samples, "samples").select(["id", "label", "prediction", "confidence"]).to_pylist()
    found = {row["id"]: row for row in table if row["id"] in set(chosen)}
    names = meta["spec"]["class_names"]

    def named(label: int) -> str:
        return names[label] if 0 <= label < len(names) else str(label)

    return [
        {
            "model": preview.model,
            "condition": preview.condition,
            "condition_id": preview.condition_id,
            "id": one,
            "label": named(found[one]["label"]),
            "prediction": named(found[one]["prediction"]),
            "confidence": next((value for _, value in found[one]["confidence"]), float("nan")),
            "clean": clean[one],
            "perturbed": perturbed[one],
        }
        for one in chosen
    ]


def previews(digests: Sequence[str], store: Store) -> dict[int, Any]:
    """The kept images of a set by example id."""
    kept: dict[int, Any] = {}
    for one in digests:
        blob = store.tensors(one, "preview")
        kept |= dict(zip(blob["ids"].tolist(), blob["x"], strict=True))
    return kept
