"""Jobs that read a whole security curve: the area under it, and the median distance at which an attack fools."""

from __future__ import annotations

import numpy as np

from testbed.metrics.robustness import curve_area, median_distance
from testbed.runner.operations import access
from testbed.runner.operations.attacks import aligned, predicted_wrong
from testbed.runner.operations.scores import estimate_rows, write_rows
from testbed.store import Store, Writer
from testbed.types import Job


def curve(job: Job, store: Store, writer: Writer) -> None:
    """One row for each of `testbed.grid.curves.METRICS`; whether an example is fooled is read from the outputs."""
    clean = access.outputs(store, access.one(job, "clean"), features=False)
    ids, wrong = np.asarray(clean.ids), predicted_wrong(clean)
    fooled, distance = [], np.where(wrong, 0.0, np.inf)
    for i in range(len(job.recipe["eps"])):
        here = access.outputs(store, access.one(job, f"outputs{i}"), features=False)
        book = aligned(access.ledger(store, job.inputs[f"ledger{i}"]), ids)
        hit = aligned({"ids": np.asarray(here.ids), "wrong": predicted_wrong(here)}, ids)["wrong"]
        fooled.append(hit)
        distance = np.minimum(distance, np.where(hit, book["distance"], np.inf))
    level = job.recipe["level"]
    area = curve_area(np.array(job.recipe["eps"]), np.stack(fooled), wrong, level=level)
    median = median_distance(distance, level=level)
    flags = "" if np.isfinite(median.value) else "more than half stand at the largest budget"
    write_rows(writer, [*estimate_rows(0, area), *estimate_rows(1, median, flags)])
