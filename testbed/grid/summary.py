"""A plan in words: cells, jobs, what is there already, and an estimate of the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator

from testbed.grid.plan import Plan


def overview(plan: Plan, todo: Iterable[str]) -> Iterator[str]:
    """A few lines about a plan; `todo` are the digests that a run would start."""
    todo = list(todo)
    kinds, new = Counter(job.kind for job in plan.jobs.values()), Counter(plan.jobs[d].kind for d in todo)
    cost = plan.cost(todo)
    idle = len(plan.jobs) - len(todo)
    yield f"{plan.name}: {len(plan.cells)} cells from {len(plan.jobs)} jobs; {len(todo)} to run, {idle} there already"
    yield "  " + ", ".join(f"{kind} {new[kind]}/{count}" for kind, count in kinds.items()) + "  (to run/all)"
    evaluations = f"{cost['forward']:,} forward and {cost['gradient']:,} gradient evaluations of one example"
    yield f"  work to do: {evaluations}; {human(cost['bytes'])} of splits"
    yield from (f"  note: {note}" for note in plan.notes)


def job_lines(plan: Plan, todo: Container[str]) -> Iterator[str]:
    """One line a job."""
    for digest, job in plan.jobs.items():
        yield f"{digest}  {'run ' if digest in todo else 'have'}  {job.kind:<10} {job.label}"


def cell_lines(plan: Plan) -> Iterator[str]:
    """One line a cell: the columns that name it, and its job."""
    skip = {"run", "protocol", "params", "condition_id", "metric_params"}
    for cell in plan.cells:
        yield f"{cell.digest}  " + " ".join(f"{k}={v}" for k, v in cell.row.items() if v is not None and k not in skip)


def human(count: int) -> str:
    """A number of bytes for people.

    >>> human(1536)
    '1.5 KiB'
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.3g} {unit}"
        value /= 1024
    raise AssertionError("unreachable")
