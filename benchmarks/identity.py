"""Whether a change keeps what it promised to keep: the digests of plans, and the numbers of two small runs.

    python benchmarks/identity.py BASE [GRID ...]

makes a worktree of the commit BASE and compares it with this one. Both plan the grids of BASE (quickstart, full, ood,
stream, every paper, and each GRID named); the complete lists of digests are compared, and every difference is printed.
Both then run two small grids on this machine, and their results are compared as multisets of (descriptive columns,
bits); flags, which say what an audit found and decide no number, are compared apart. Nothing is compared with stored
values: another processor gives other bits. Exit code 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent

#: Package -> its folder in a tree.
PACKAGES = {"testbed": "testbed", "testbed_attacks": "attacks", "testbed_shifts": "shifts",
            "testbed_papers": "experiments/papers"}  # fmt: skip

#: Columns that are measured; all others that both sides have describe a row.
MEASURED = ("n", "value", "ci_low", "ci_high")

_DIGITS = {"use": "digits", "train": 300, "calibration": 100, "test": 60}
_NET = {"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}}
SMALL: dict[str, dict[str, Any]] = {
    "conditions": {
        "name": "conditions", "data": _DIGITS, "models": _NET, "train_seeds": [0, 1],
        "conditions": [
            "clean",
            {"shift": ["gaussian_noise", "rotate"], "severity": [1, 3]},
            {"attack": ["fgsm", {"use": "pgd", "steps": 3}, "square"], "norm": "linf", "eps": 0.1},
            {"chain": [{"shift": "fog", "severity": 2}, {"attack": "fgsm", "eps": 0.1}], "name": "fog then fgsm"},
        ],
        "calibrators": ["none", "temperature"], "compare": "none",
    },
    "detection": {
        "name": "detection", "data": _DIGITS, "models": _NET,
        "conditions": ["clean", {"shift": "gaussian_noise", "severity": 2}],
        "calibrators": ["none", "isotonic"], "detectors": ["msp", "knn", "vim"],
        "ood": [{"use": ["gaussian", "uniform"], "group": "far", "limit": 50}, {"use": "scrambled-patches"}],
        "full_spectrum": True, "metrics": ["accuracy", "ece", "auroc", "fpr95", "aurc"],
    },
}  # fmt: skip

#: Stops where Python would import another tree than the one that is meant.
_WHOSE = """
import sys, testbed
assert testbed.__file__.startswith(sys.argv[1]), f"{testbed.__file__} is not in {sys.argv[1]}"
"""

_PLAN = """
import json, sys
from testbed.errors import TestbedError
from testbed.grid.planner import plan
from testbed.grid.stream import plan_stream
found = {}
for path in json.loads(sys.argv[2]):
    try:
        planned = (plan_stream if path.endswith("stream.yaml") else plan)(path)
        found[path] = [[job.digest, job.kind, job.label] for job in planned.jobs.values()]
    except TestbedError as error:
        found[path] = str(error).splitlines()[0]
print(json.dumps(found))
"""

_RUN = """
import json, sys
from pathlib import Path
import testbed
grid, folder = json.loads(sys.argv[2]), sys.argv[3]
table = testbed.evaluate(grid, store=folder + "/store", out=Path(folder, "run"), executor="serial")
print(json.dumps(table.to_pylist()))
"""


def python(lib: Path, folder: Path, script: str, *arguments: str) -> Any:
    """What a script prints as JSON, run in a folder with the packages and entry points of a library."""
    found = subprocess.run(
        [sys.executable, "-P", "-c", _WHOSE + script, str(lib), *arguments], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(lib), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if found.returncode:
        raise SystemExit(f"{lib}: {found.stderr}")
    return json.loads(found.stdout.splitlines()[-1])


def library(tree: Path, lib: Path) -> Path:
    """A folder that makes Python import the packages of a tree, with the entry points of its pyproject.toml."""
    info = lib / "robustness_testbed-0.dist-info"
    info.mkdir(parents=True)
    for name, folder in PACKAGES.items():
        (lib / name).symlink_to(tree / folder)
    points = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["entry-points"]
    text = "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in of.items()) for group, of in points.items())
    (info / "entry_points.txt").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: robustness-testbed\nVersion: 0\n")
    return lib


def grids(tree: Path, more: list[str]) -> list[str]:
    """The grids that are planned: those of the tree, and what was named."""
    own = [tree / "experiments" / f"{name}.yaml" for name in ("quickstart", "full", "ood", "stream")]
    papers = [p for p in sorted((tree / "experiments" / "papers").glob("*/*.yaml")) if p.name != "needs.yaml"]
    return [*map(str, own), *map(str, papers), *(str(Path(one).resolve()) for one in more)]


def plans(base: Path, libs: tuple[Path, Path], more: list[str]) -> Iterator[str]:
    """One line a grid whose digests differ; says on the way what is equal."""
    paths = json.dumps(grids(base, more))
    before, after = (python(lib, base, _PLAN, paths) for lib in libs)
    for path, jobs in before.items():
        name, other = path.replace(f"{base}/", ""), after[path]
        if isinstance(jobs, str) or isinstance(other, str):
            if jobs == other:
                print(f"not planned by either: {name}: {jobs.replace(f'{base}/', '')}")
            else:
                yield f"{name}: {' -> '.join(one if isinstance(one, str) else 'planned' for one in (jobs, other))}"
            continue
        old, new = ({job[0]: f"{job[1]} {job[2]}" for job in side} for side in (jobs, other))
        gone, fresh = ([side[d] for d in side if d not in rest] for side, rest in ((old, new), (new, old)))
        if gone or fresh:
            yield f"{name}: {len(gone)} digests gone ({gone[:3]}), {len(fresh)} new ({fresh[:3]})"
        else:
            print(f"equal: {name}: {len(jobs)} digests")


def runs(base: Path, libs: tuple[Path, Path], folder: Path) -> Iterator[str]:
    """One line a small grid whose rows differ."""
    for name, grid in SMALL.items():
        tables = []
        for side, lib in zip(("before", "after"), libs, strict=True):
            tables.append(python(lib, base, _RUN, json.dumps(grid), str(folder / name / side)))
        shared = [column for column in tables[0][0] if column in tables[1][0] and column not in MEASURED]
        for what, columns in (("numbers", [one for one in shared if one != "flags"]), ("numbers and flags", shared)):
            before, after = (Counter(_row(row, columns) for row in rows) for rows in tables)
            if before != after:
                only = [next(iter(one), None) for one in ((before - after), (after - before))]
                yield f"{name}: {what} of {(before - after).total()} rows differ, as {only[0]} -> {only[1]}"
            else:
                print(f"equal: {name}: {what} of {before.total()} rows, bit by bit, in {len(columns)} columns")


def _row(row: dict[str, Any], columns: list[str]) -> tuple[Any, ...]:
    bits = (value.hex() if isinstance(value, float) else value for value in (row[name] for name in MEASURED))
    return (*(row[name] for name in columns), *bits)


def main() -> None:
    """Compare this tree with BASE."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="the commit to compare with")
    parser.add_argument("grids", nargs="*", help="more grids to plan on both sides")
    parser.add_argument("--plans", action="store_true", help="compare the plans and run nothing")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        base = folder / "base"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", str(base), given.base], cwd=HERE, check=True)
        try:
            libs = library(base, folder / "lib-before"), library(HERE, folder / "lib-after")
            found = list(plans(base, libs, given.grids))
            found += [] if given.plans else list(runs(base, libs, folder))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(base)], cwd=HERE, check=True)
    print("\n".join(f"DIFFERS: {line}" for line in found) or "nothing differs")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
