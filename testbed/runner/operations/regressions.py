"""The job that says what one calibrator changed against another, on the same outputs. It needs no torch."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from testbed.calibration.conformal import Conformal
from testbed.metrics.comparison import Difference, flips
from testbed.metrics.recalibration import changes
from testbed.metrics.slices import slices
from testbed.runner.operations import access
from testbed.runner.operations.fits import fitted, probabilities
from testbed.runner.operations.scores import draws
from testbed.store import Store, Writer
from testbed.types import Array, Job, Outputs

#: Columns of the table, besides those of the changed predictions.
COLUMNS = tuple(field.name for field in fields(Difference))


def recalibrated(job: Job, store: Store, writer: Writer) -> None:
    """Every change from the calibrator `before` to the one `after`, on the whole set, its classes and its groups."""
    import pyarrow as pa

    features = any(access.needs_features(job.recipe[side]["calibrator"], store) for side in ("before", "after"))
    data = access.outputs(store, access.one(job, "outputs"), features=features)
    labels = np.asarray(data.labels)
    sides = [_side(job, store, data, labels, side, features) for side in ("before", "after")]
    (p, covered), (q, covers) = sides
    shared = draws(job.recipe["seed"], len(labels), job.recipe["intervals"]["replicates"])
    found = changes(p, q, labels, slices(labels, data.groups), shared, (covered, covers))
    flipped = flips(p, q, labels)
    rows = [{name: getattr(d, name) for name in COLUMNS} for d in found]
    rows[0] |= {"lost": flipped.lost, "gained": flipped.gained, "moved": flipped.moved}
    kinds = dict.fromkeys(("metric", "part", "verdict", "convention", "test"), pa.string())
    kinds |= dict.fromkeys(("n", "differing", "lost", "gained", "moved"), pa.int64())
    kinds["higher_is_better"] = pa.bool_()
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in (*COLUMNS, "lost", "gained", "moved")])
    writer.table("rows", pa.Table.from_pylist(rows, schema=schema))


def _side(
    job: Job, store: Store, data: Outputs, labels: Array, side: str, features: bool
) -> tuple[Array, Array]:  # fmt: skip
    """Probabilities `[n, k]` of one side, and whether its conformal sets hold the label."""
    calibrator, _ = fitted(job, store, side, job.recipe[side]["calibrator"])
    source = access.outputs(store, access.one(job, f"source_{side}"), features=features)
    probs = probabilities(calibrator, data)
    sets = Conformal("lac", 0.1).fit(probabilities(calibrator, source), np.asarray(source.labels)).sets(probs)
    return probs, sets[np.arange(len(labels)), labels]
