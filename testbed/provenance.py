"""Where a number comes from: code, packages and machine, learnt without importing torch.

`plan.json` carries this and `testbed version --json` prints it. Nothing in it enters a digest (digests hold the torch
version and device class themselves), so it may say more than decides a result.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

#: Variables that decide how many threads numerical libraries take; the plan's own number overrides them in jobs.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@lru_cache(maxsize=1)
def provenance() -> dict[str, Any]:
    """Everything known of this installation and machine, as plain JSON values.

    >>> sorted(provenance())
    ['code', 'cpu', 'gpus', 'packages', 'platform', 'python', 'testbed', 'threads']
    """
    from testbed import __version__

    return {
        "testbed": __version__,
        "code": code_digest(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": cpu(),
        "gpus": gpus(),
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "packages": packages(),
    }


def packages() -> dict[str, str]:
    """The package lock: name -> version of every installed distribution, by normalised name."""
    found = dict(reversed([_name_and_version(d) for d in distributions()]))  # the first on the path is the one in use
    return {name: found[name] for name in sorted(found) if name}


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """The two lines of the metadata, read without parsing the rest: there may be hundreds of distributions."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    lines = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    found = {name: value.strip() for name, _, value in lines if name in ("Name", "Version")}
    return found.get("Name", "").lower().replace("_", "-"), found.get("Version", "")


def code_digest() -> str:
    """Digest of the testbed's own Python files (path and content): tells an edited checkout from a release."""
    from testbed.digest import digest, digest_bytes

    return digest({name: digest_bytes(path.read_bytes()) for name, path in sorted(_sources())})


def _sources() -> Iterator[tuple[str, Path]]:
    for package in ("testbed", "testbed_attacks", "testbed_shifts"):
        if folder := _folder(package):
            yield from ((f"{package}/{p.relative_to(folder).as_posix()}", p) for p in folder.rglob("*.py"))


def _folder(package: str) -> Path | None:
    """Where a package lies, found without importing it."""
    from importlib.util import find_spec

    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def cpu() -> dict[str, Any]:
    """The processor: model, the vector extensions that change rounding, and the cores this process may use."""
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    vector = [name for name in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_tile", "asimd", "sve") if name in flags]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    model = info.get("model name") or platform.processor() or platform.machine()
    capped = {"capability": os.environ["ATEN_CPU_CAPABILITY"]} if os.environ.get("ATEN_CPU_CAPABILITY") else {}
    return {"model": model, "architecture": platform.machine(), "vector": vector, "cores": cores, **capped}


def cpu_class(found: Mapping[str, Any] | None = None) -> str:
    """What decides rounding, of `cpu()` of this machine or another: architecture and vector extensions in use.

    `ATEN_CPU_CAPABILITY`, which holds torch back to fewer of them, counts.

    >>> cpu_class({"architecture": "x86_64", "vector": ["avx2", "fma"], "model": "any", "cores": 2})
    'x86_64 avx2 fma'
    """
    found = cpu() if found is None else found
    capped = [f"torch:{found['capability']}"] if found.get("capability") else []
    return " ".join([str(found["architecture"]), *found["vector"], *capped])


def _cpuinfo() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    if sys.platform != "linux" or not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def gpus() -> list[str]:
    """Model names of NVIDIA GPUs that the driver lists; empty where it lists none."""
    files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = (line for file in files for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
    return [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
