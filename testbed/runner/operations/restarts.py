"""Jobs that report the restarts of an attack one by one; see `testbed.perturb.restarts`."""

from __future__ import annotations

from testbed.metrics.bounded import clopper_pearson
from testbed.metrics.estimate import Estimate
from testbed.perturb.restarts import COUNTS, accuracies
from testbed.runner.operations import access
from testbed.runner.operations.audits import by_products
from testbed.runner.operations.pooled import repeats_estimates
from testbed.runner.operations.scores import estimate_rows, write_rows
from testbed.store import Store, Writer
from testbed.types import Job

CONVENTION = "robust accuracy of one restart alone, examples wrong before the attack included; top-1"


def restarts(job: Job, store: Store, writer: Writer) -> None:
    """Mean, spread, and each one of the robust accuracies of the restarts of one attack.

    An attack that was not run (eps 0, or no example right) leaves the same in every restart: what the ledger says.
    """
    success = access.ledger(store, job.inputs["ledger"])["success"]
    n, count = len(success), job.recipe["restarts"]
    fooled = by_products(store, job.inputs["ledger"]).get(COUNTS, [int(success.sum())] * count)
    each = accuracies(n, fooled)
    mean, spread = repeats_estimates(each, [{"convention": CONVENTION, "n": n}] * count, "restarts")
    alone = [
        Estimate(
            value, *clopper_pearson(n - wrong, n), f"restart {number} of {count}; {CONVENTION}; clopper-pearson 95%", n
        )
        for number, (value, wrong) in enumerate(zip(each, fooled, strict=True), start=1)
    ]
    write_rows(writer, [*estimate_rows(0, mean), *estimate_rows(1, spread), *estimate_rows(2, alone)])
