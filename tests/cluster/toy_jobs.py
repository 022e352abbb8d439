"""Toy operations for tests of the store and the runner: deterministic arrays, and trouble on demand.

`perform` appends one line to <store>/starts.log as it begins, so that tests can count the starts of each job.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from testbed.digest import digest
from testbed.errors import EnvironmentProblem
from testbed.seeding import Rng
from testbed.store import Store
from testbed.types import Job

OPERATION = "toy_jobs:perform"


def job(kind: str, /, inputs: Mapping[str, tuple[str, ...]] | None = None, **recipe: Any) -> Job:
    """A job whose digest covers its kind, recipe and inputs."""
    whole = {"kind": kind, **recipe, "inputs": {name: list(d) for name, d in (inputs or {}).items()}}
    return Job(digest(whole), kind, whole, inputs or {}, label=f"{kind} {recipe.get('name', '')}".strip())


def by_digest(*jobs: Job) -> dict[str, Job]:
    """Jobs as the driver takes them."""
    return {j.digest: j for j in jobs}


def diamond(**recipe: Any) -> tuple[Job, Job, Job, Job]:
    """One set, two jobs that read it, one that reads both."""
    top = job("make", name="top", n=5, **recipe)
    left, right = (job("add", {"x": (top.digest,)}, name=name, n=k) for k, name in enumerate(("left", "right"), 1))
    return top, left, right, job("add", {"x": (left.digest, right.digest)}, name="bottom", n=3)


def grid(sets: int, readers: int, seconds: float = 0.0) -> tuple[dict[str, Job], list[str]]:
    """`sets` sets x `readers` outputs each x one score each; the scores are wanted."""
    jobs, wanted = [], []
    for s in range(sets):
        made = job("make", name=f"s{s}", n=16, seed=s, seconds=seconds)
        jobs.append(made)
        for r in range(readers):
            out = job("add", {"x": (made.digest,)}, name=f"s{s} r{r}", n=r + 1, seconds=seconds)
            score = job("add", {"x": (out.digest,)}, name=f"score s{s} r{r}", n=100 + r, seconds=seconds)
            jobs += [out, score]
            wanted.append(score.digest)
    return by_digest(*jobs), wanted


def perform(job: Job, store: Store) -> dict[str, int]:
    """make: draws an array (role inputs). add: sums its inputs and adds n (role outputs), with one row."""
    log(store, job.digest)
    recipe = job.recipe
    time.sleep(recipe.get("seconds", 0.0))
    misbehave(recipe, store)
    if job.kind == "make":
        x = Rng("toy", 1, recipe.get("seed", 0), np.arange(recipe["n"])).normal((3,))
    elif job.kind == "product":
        x = product(recipe["n"])
    else:
        x = sum(store.tensors(d, "x")["x"] for d in job.needs) + recipe["n"]
    with store.writer(job) as writer:
        writer.tensors("x", {"x": np.asarray(x)}, role="inputs" if job.kind == "make" else "outputs")
        writer.table("rows", pa.table({"total": [float(np.sum(x))]}))
        writer.meta["n"] = recipe["n"]
        spin(recipe)
    if recipe.get("trouble") == "withdrawn once" and first(store, recipe["name"]):
        store.set_aside(job.digest)  # as another run would
    return {"forwards": recipe["n"], "gradients": 0}


def product(n: int) -> np.ndarray:
    """A product of matrix and vector whose rounding depends on how BLAS splits it over threads."""
    draws = Rng("toy", 1, 0, np.arange(n)).normal((n,)).astype(np.float32)
    return draws.T @ draws[0]


def spin(recipe: Mapping[str, Any]) -> None:
    """Keep one core busy for a stated number of steps (two workers against serial is measured with it)."""
    total = 0
    for step in range(recipe.get("steps", 0)):
        total += step


def misbehave(recipe: Mapping[str, Any], store: Store) -> None:
    """The trouble that a recipe asks for under "trouble"."""
    match recipe.get("trouble"):
        case "raise":
            raise ValueError("this job always fails")
        case "exit":
            sys.exit("a plug-in called sys.exit")
        case "hang":
            time.sleep(3600)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case "die once" if first(store, recipe["name"]):
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang once" if first(store, recipe["name"]):
            time.sleep(3600)
        case "interrupt once" if first(store, recipe["name"]):
            raise KeyboardInterrupt
        case "machine":
            raise EnvironmentProblem("no such device: cuda")


def first(store: Store, name: str) -> bool:
    """Whether this is the first call with this name on this store, over all processes."""
    try:
        os.close(os.open(Path(store.url) / f"first {name}", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def log(store: Store, digest: str) -> None:
    """Append a start to the log: one write of one line, so that lines of several processes do not mix."""
    if "://" in store.url:
        return
    published = int(store.manifest(digest) is not None)
    with (Path(store.url) / "starts.log").open("ab", buffering=0) as file:
        file.write(f"{digest} {os.getpid()} {published}\n".encode())


def starts(store: Store) -> Counter[str]:
    """How often each job was started."""
    return Counter(line.split()[0] for line in _lines(store))


def started_when_published(store: Store) -> list[str]:
    """Digests of jobs that were started although their manifest was there."""
    return [line.split()[0] for line in _lines(store) if line.split()[2] == "1"]


def _lines(store: Store) -> list[str]:
    path = Path(store.url) / "starts.log"
    return path.read_text().splitlines() if path.exists() else []


def table(store: Store, wanted: list[str]) -> list[tuple[str, float]]:
    """The final table of a toy run."""
    return [(d, store.table(d, "rows")["total"][0].as_py()) for d in wanted]


def snapshot(store: Store) -> dict[str, bytes]:
    """Every manifest's bytes by name: equal if and only if two stores hold the same artifacts, bit for bit."""
    root = Path(store.url)
    return {p.name: p.read_bytes() for p in sorted((root / "manifests").rglob("*.json"))}
