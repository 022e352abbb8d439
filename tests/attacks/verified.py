"""What each attack is checked against: collected from the tests and benchmarks into attacks/verified.json.

    python tests/attacks/verified.py            # run the tests that carry the marker, write the file if they pass
    python tests/attacks/verified.py --collect  # write the file without running them

A test says what it checks with a marker whose arguments are literals, and a benchmark with a constant of that name:

    @pytest.mark.verifies("fgsm", by="reference", against="foolbox 3.3.4 LinfFastGradientAttack")
    VERIFIES = [{"names": ["autoattack"], "by": "measurement", "against": "pyautoattack 0.2.0, verdicts"}]

`by` is `hand` (a value worked out on paper or in closed form), `reference` (another implementation's output) or
`measurement` (a benchmark, whose figures are in its output). `testbed ls attacks --verified` prints the file.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FILE = ROOT / "attacks" / "verified.json"
WAYS = ("hand", "reference", "measurement")


def collect() -> dict[str, Any]:
    """Attack name -> what it is checked against, from the sources."""
    found: dict[str, list[dict[str, str]]] = {}
    for path in sorted([*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "benchmarks").glob("*.py")]):
        text = path.read_text(encoding="utf-8")
        if "verifies(" not in text and "VERIFIES" not in text:
            continue
        for names, entry in claims(ast.parse(text), str(path.relative_to(ROOT))):
            for name in names:
                found.setdefault(name, []).append(entry)
    return {"made_by": "python tests/attacks/verified.py", "attack": dict(sorted(found.items()))}


def claims(tree: ast.Module, file: str) -> list[tuple[list[str], dict[str, str]]]:
    """Names and entry of each marker and each constant of one file; ValueError for a way that is none of WAYS."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for marker in node.decorator_list:
                if isinstance(marker, ast.Call) and ast.unparse(marker.func) == "pytest.mark.verifies":
                    names = [ast.literal_eval(argument) for argument in marker.args]
                    keys = {str(k.arg): ast.literal_eval(k.value) for k in marker.keywords}
                    found.append((names, {**keys, "where": f"{file}::{node.name}"}))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERIFIES":
            for claim in ast.literal_eval(node.value):
                names = claim.pop("names")
                found.append((names, {**claim, "where": file}))
    for _, entry in found:
        if entry.get("by") not in WAYS or not entry.get("against"):
            raise ValueError(f"{entry['where']}: verifies needs against=... and by= one of {', '.join(WAYS)}")
    return found


def main() -> int:
    """Collect, run what was collected, write."""
    table = collect()
    tests = sorted({e["where"] for entries in table["attack"].values() for e in entries if "::" in e["where"]})
    if "--collect" not in sys.argv[1:]:
        ended = subprocess.run([sys.executable, "-m", "pytest", "-q", "-n", "0", *tests], cwd=ROOT, check=False)
        if ended.returncode:
            print("a test failed: attacks/verified.json is left as it was")
            return 1
    FILE.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(table['attack'])} attacks, {len(tests)} tests")
    return 0


if __name__ == "__main__":
    sys.exit(main())
