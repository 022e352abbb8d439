"""Jobs that audit an attack's number: its by-products, and in the full tier what further attacks found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from testbed.perturb.checks import TRANSFER, Check, basic_checks, failed, full_checks
from testbed.runner.operations import access
from testbed.runner.operations.attacks import aligned, merge_audits, predicted_wrong
from testbed.runner.operations.scores import write_rows
from testbed.store import Store, Writer
from testbed.types import Array, Job

#: Input roles of an audit that are not further attacks.
OWN = frozenset({"ledger", "outputs"})


def audit(job: Job, store: Store, writer: Writer) -> None:
    """One row a check: its number, its limit, pass or fail."""
    found = by_products(store, job.inputs["ledger"])
    book = access.ledger(store, job.inputs["ledger"])
    checks = basic_checks(found, book["success"], book["first_step"])
    further = {role: _success(job, store, role, book["ids"]) for role in job.inputs if role not in OWN}
    if further:
        checks += full_checks(book["success"], further, book["confidence_before"], job.recipe["slack"])
    writer.meta["failed"] = failed(checks)
    write_rows(writer, [check_row(check, len(book["success"])) for check in checks])


def by_products(store: Store, digests: Sequence[str]) -> dict[str, Any]:
    """What the shards of one attack noted for the audit, as one."""
    found = [store.require(digest).meta for digest in digests]
    return merge_audits([(meta["n"], meta["audit"]) for meta in found])


def _success(job: Job, store: Store, role: str, ids: Array) -> Array:
    """bool `[n]`: whether a further attack fooled each example; of images made elsewhere the outputs tell."""
    if role != TRANSFER:
        return aligned(access.ledger(store, job.inputs[role]), ids)["success"]
    outputs = access.outputs(store, access.one(job, role), features=False)
    return aligned({"ids": np.asarray(outputs.ids), "wrong": predicted_wrong(outputs)}, ids)["wrong"]


def check_row(check: Check, n: int) -> dict[str, Any]:
    """A row of the audit.

    >>> check_row(Check("zero_gradient_share", 0.5, 0.01, "gradients are zero"), 100)["convention"]
    'zero_gradient_share (passes at <= 0.01): gradients are zero where it fails'
    """
    return {
        "position": 0,
        "convention": f"{check.name} (passes at <= {check.limit:g}): {check.says} where it fails",
        "value": check.value,
        "ci_low": float("nan"),
        "ci_high": float("nan"),
        "n": n,
        "flags": "pass" if check.passed else "fail",
    }
