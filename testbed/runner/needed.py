"""Which jobs must run: pulled from the wanted results backward, by what the store already holds.

A job is valid if its manifest is present, what it consumed is what its inputs now hold, and those inputs are valid
themselves or absent. One whose plug-in read what it had not declared is valid in the run that made it only. A valid job
serves if its blobs are there, and none was dropped that somebody must read. A job runs if it is wanted and does not
serve, or if a job that runs reads it and it does not serve. So an input that was dropped, or never copied here, is not
made again for the sake of a finished result.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from testbed.store import Manifest, Store
from testbed.store.store import NONE, Roles, stale
from testbed.types import Job

#: Says which roles of blobs a job reads of the inputs it has under a name (a key of `Job.inputs`); None = all.
Reads: TypeAlias = Callable[[Job, str], Roles]


@dataclass(frozen=True)
class Needed:
    """run: digest of each job that must run -> the roles others read of it, in plan order; cached: those that serve."""

    run: Mapping[str, Roles]
    cached: frozenset[str]
    manifests: Mapping[str, Manifest]


def everything(job: Job, name: str) -> Roles:
    """A job reads all of its inputs' blobs."""
    return None


def needed(
    jobs: Mapping[str, Job],
    wanted: Iterable[str],
    store: Store,
    reads: Reads = everything,
    own: Container[str] = frozenset(),
) -> Needed:
    """What must run so that the wanted jobs are done. `jobs` holds inputs before the jobs that need them.

    own  digests of jobs that this run has made itself: they serve even where a later run may not take them
    """
    wanted = tuple(wanted)
    members = ancestors(jobs, wanted)
    manifests = store.manifests(members)
    valid = _valid({d: jobs[d] for d in jobs if d in members}, manifests, own)
    intact = store.present({d: (manifests[d], NONE) for d in valid})
    demand: dict[str, Roles] = {}
    run: set[str] = set()
    stack: list[tuple[str, Roles]] = [(digest, NONE) for digest in wanted]
    while stack:
        digest, roles = stack.pop()
        roles = _either(demand.get(digest, NONE), roles)
        seen = digest in demand and demand[digest] == roles
        demand[digest] = roles
        if seen or digest in run or (digest in intact and _serves(manifests[digest], roles)):
            continue
        run.add(digest)
        job = jobs[digest]
        stack += [(d, reads(job, name)) for name, digests in job.inputs.items() for d in digests]
    ordered = {d: demand[d] for d in jobs if d in run}
    return Needed(ordered, frozenset(demand) - run, manifests)


def ancestors(jobs: Mapping[str, Job], wanted: Iterable[str]) -> set[str]:
    """The wanted jobs and everything they need, directly or not."""
    found: set[str] = set()
    stack = list(wanted)
    while stack:
        digest = stack.pop()
        if digest in found:
            continue
        if digest not in jobs:
            raise ValueError(f"the plan has no job {digest}, which another one needs")
        found.add(digest)
        stack += jobs[digest].needs
    return found


def _valid(jobs: Mapping[str, Job], manifests: Mapping[str, Manifest], own: Container[str]) -> set[str]:
    valid: set[str] = set()
    for digest, job in jobs.items():
        inputs_hold = all(d in valid for d in job.needs if d in manifests)
        if digest not in manifests or not inputs_hold or stale(manifests[digest], manifests):
            continue
        if manifests[digest].reusable or digest in own:
            valid.add(digest)
    return valid


def _either(one: Roles, other: Roles) -> Roles:
    return None if one is None or other is None else one | other


def _serves(manifest: Manifest, roles: Roles) -> bool:
    return all(roles is not None and manifest.blobs[name].role not in roles for name in manifest.dropped)
