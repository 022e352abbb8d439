"""Why a job is new: its recipe beside the nearest one of its kind that the store holds.

Nearest means fewest fields that differ. Digests of inputs differ wherever something before them does, so a job whose
inputs are new is explained by those inputs, and the first cause is what is printed.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from testbed.errors import UsageError
from testbed.grid.plan import Plan
from testbed.store import Store
from testbed.types import Job


def explain(plan: Plan, todo: Container[str], store: Store, which: str) -> Iterator[str]:
    """Lines for the jobs that `which` names: a digest, a part of a label, or "all"."""
    jobs = [j for j in plan.jobs.values() if which in ("all", j.digest) or which.lower() in j.label.lower()]
    if not jobs:
        raise UsageError(f"--explain {which!r}: no job of the plan has this digest or label; `--jobs` lists them")
    stored: dict[str, list[Mapping[str, Any]]] = {}
    for manifest in store.all_manifests().values():
        stored.setdefault(manifest.kind, []).append(manifest.recipe)
    for job in jobs:
        yield f"{job.digest}  {job.kind} {job.label}"
        yield from (f"    {line}" for line in reasons(job, plan, todo, stored))


def reasons(job: Job, plan: Plan, todo: Container[str], stored: Mapping[str, list[Mapping[str, Any]]]) -> Iterator[str]:
    """Why one job is to be run, or that it is not."""
    if job.digest not in todo:
        yield "already there, or nothing needs it"
        return
    for upstream in job.needs:
        if upstream in todo:
            yield f"needs {upstream} ({plan.jobs[upstream].kind} {plan.jobs[upstream].label}), which is to be run"
    own = flat(job.recipe)
    nearest = min(
        (flat(recipe) for recipe in stored.get(job.kind, [])),
        key=lambda other: len(differences(own, other)),
        default=None,
    )
    if nearest is None:
        yield f"the store holds no {job.kind} yet"
        return
    found = differences(own, nearest)
    if not found:
        yield "its artifact is in the store, but stale, incomplete or without the blobs that are needed now"
    for path in found:
        now = own.get(path, "absent")
        file = f" ({plan.places[now]})" if isinstance(now, str) and now in plan.places else ""
        yield f"{path}: {nearest.get(path, 'absent')!s} -> {now!s}{file}"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Paths at which two flat recipes differ.

    >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4})
    ['b', 'c']
    """
    return sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A recipe as path -> leaf.

    >>> flat({"attack": {"params": {"eps": 0.1}}, "inputs": {"set": ["x"]}})
    {'attack.params.eps': 0.1, 'inputs.set.0': 'x'}
    """
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for key, item in items:
        found |= flat(item, f"{path}.{key}" if path else str(key))
    return found
