"""What each kind of job does, from its recipe and the store alone.

`perform(job, store)` reads the artifacts of the job's inputs, does the work, and publishes. It may run twice, on any
machine, at any time: it depends on nothing else and publishes atomically. An operation is a function
`(job, store, writer) -> counts`; counts ({"forwards": n, "gradients": n}) go to jobs.parquet, never into a result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Final, TypeAlias

from testbed import watch
from testbed.plugins import KINDS, installed
from testbed.runner.threads import limited
from testbed.store import Store, Writer
from testbed.types import Job

Operation: TypeAlias = Callable[[Job, Store, Writer], Mapping[str, int] | None]

#: Kind of job -> module and function. Imported on use: scoring needs no torch.
HOME: Final[Mapping[str, str]] = {
    "describe": "sets", "split": "sets", "ood": "sets", "shift": "sets", "quantise": "sets",
    "file": "models", "weights": "models", "train": "models", "forward": "models",
    "attack": "attacks", "worst": "attacks", "audit": "audits", "curve": "curves",
    "restarts": "restarts",
    "sweep": "attacks", "level": "attacks",
    "bank_network": "networks", "detect_network": "networks", "detect_worst": "attacks",
    "calibrate": "fits", "bank": "fits", "detect": "fits",
    "tune": "fits", "score_pooled": "pooled", "score_failures": "pooled", "over_seeds": "pooled",
    "score": "scores", "score_ood": "scores", "samples": "scores", "score_transfer": "transfer",
    "replay": "streams",
    "score_groups": "aggregates", "aggregate": "aggregates", "score_frames": "aggregates",
    "recalibrated": "regressions", "recorded": "recorded",
}  # fmt: skip


def perform(job: Job, store: Store) -> dict[str, int]:
    """Do one job and publish its artifact; returns what it cost. `store` is pinned: one job's view of it."""
    operation: Operation = getattr(import_module(f"{__name__}.{HOME[job.kind]}"), job.kind)
    with store.writer(job) as writer:
        counts: Any = operation(job, store, writer)
        note_undeclared(job, store, writer)
    return dict(counts or {})


def note_undeclared(job: Job, store: Store, writer: Writer) -> None:
    """Note in an artifact what plug-ins read without declaring it, in this job and in those it rests on."""
    found = {one for digest in job.needs for one in store.require(digest).meta.get("undeclared", ())}
    if (watched := watch.current()) is not None:
        found |= set(watched.undeclared())
    if found:
        writer.meta["undeclared"] = sorted(found)


def preload() -> None:
    """What most jobs import and look up first, for the process that users' jobs are forked from. Starts no thread."""
    for name in PRELOAD:
        import_module(name)
    for kind in KINDS:
        installed(kind)
    watch.left_out()
    with limited(1):
        pass


PRELOAD: Final = (
    "torch", "numpy.random", "pyarrow.parquet", "safetensors.numpy", "scipy.optimize", "scipy.special", "scipy.stats",
    "testbed.models.zoo", "testbed.models.nets.small_cnn", "testbed.perturb.execution", "testbed.perturb.shift",
    "testbed.perturb.only", "testbed.perturb.pushed", "testbed.perturb.targets", "testbed.perturb.unit",
    *(f"{__name__}.{module}" for module in sorted({*HOME.values()})),
)  # fmt: skip

#: Input role -> roles of the blobs that are read of it. A set is read for its examples, all else for its results.
READS: Final[Mapping[str, frozenset[str]]] = {
    "set": frozenset({"data", "inputs"}), "sweep": frozenset({"inputs", "outputs"}),
}  # fmt: skip


def reads(job: Job, role: str) -> frozenset[str]:
    """Which blobs a job reads of the artifacts it takes in a role."""
    return READS.get(role, frozenset({"outputs", "rows"}))
