"""The job that scores what needs more than one set's outputs: labelled source outputs, or another model's predictions.

Accuracy estimated without labels, conformal sets. None of it needs torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from testbed.metrics.estimated_accuracy import Labelled
from testbed.plugins import Plugin
from testbed.runner.operations import access
from testbed.runner.operations.fits import fitted, probabilities
from testbed.runner.operations.scores import draws, each_metric, estimate_rows, write_rows
from testbed.store import Store, Writer
from testbed.types import Job


def score_transfer(job: Job, store: Store, writer: Writer) -> None:
    """Metrics of one model on one set under one calibrator, given source outputs or the predictions of a mate."""
    features = access.needs_features(job.recipe.get("calibrator"), store)
    calibrator, _ = fitted(job, store)
    data = access.outputs(store, access.one(job, "outputs"), features=features)
    labels = np.asarray(data.labels)
    given: dict[str, dict[str, Any]] = {}
    if job.inputs.get("source"):
        known = access.outputs(store, access.one(job, "source"), features=features)
        source = Labelled(probabilities(calibrator, known), np.asarray(known.labels), np.asarray(known.ids))
        given["source"] = {"source": source, "ids": np.asarray(data.ids)}
    if job.inputs.get("mate"):
        mate = access.outputs(store, access.one(job, "mate"), features=False)
        given["mate"] = {"mate": mate.predicted}
    probs = probabilities(calibrator, data)
    shared = draws(job.recipe["seed"], len(labels), job.recipe["intervals"]["replicates"])

    def one(position: int, plugin: Plugin, metric: Any) -> list[dict[str, Any]]:
        return estimate_rows(position, metric(probs, labels, draws=shared, **given[plugin.facts["needs"]]))

    write_rows(writer, each_metric(job, store, len(labels), one))
