"""Jobs of detectors that run the network themselves: fit on the examples of a split, score the examples of a set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from testbed.runner.operations import access
from testbed.runner.operations.fits import write_scores
from testbed.runner.operations.models import as_planned, classifier, tensor
from testbed.store import Store, Writer
from testbed.types import Job


def bank_network(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Fit a detector on the examples of a split, with the network at hand."""
    recipe = job.recipe["detector"]
    detector = access.code("detector", recipe, store).build(**recipe["params"])
    examples = access.whole(store, job.inputs["set"])
    with as_planned(job.recipe["runtime"]) as device:
        model = classifier(job, store, device)
        x = tensor(examples, device)
        fitted = detector.fit_network(model, x, examples.y, batch=job.recipe["runtime"]["batch"])
    access.write_state(writer, fitted.state())
    writer.meta.update(fitted=True, n=len(examples))
    return {f"{kind}s": len(examples) * count for kind, count in detector.fit_passes.items()}


def detect_network(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Score the examples of a set, shard by shard; scores are larger for more out-of-distribution."""
    recipe = job.recipe["detector"]
    detector = access.code("detector", recipe, store).build(**recipe["params"])
    if job.inputs.get("bank"):
        detector = detector.restore(access.read_state(store, access.one(job, "bank")))
    scores, ids = [], []
    with as_planned(job.recipe["runtime"]) as device:
        model = classifier(job, store, device)
        for examples in access.shards(store, job.inputs["set"]):
            x = tensor(examples, device)
            scores.append(detector.score_network(model, x, ids=examples.ids, batch=job.recipe["runtime"]["batch"]))
            ids.append(examples.ids)
    write_scores(writer, np.concatenate(scores), np.concatenate(ids))
    return {f"{kind}s": sum(map(len, ids)) * count for kind, count in detector.passes_of().items()}
