"""docs/attacks.md as it stands: every file of the page is written, every command is run, every quoted error comes."""

import re
import shlex
from pathlib import Path

import pytest

from testbed import contracts, plugins
from testbed.cli import app, guarded

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.M | re.S)
FILES = {body.split("\n", 1)[0].removeprefix("# "): body for kind, body in BLOCKS if kind in ("python", "yaml")}
COMMANDS = [line for kind, body in BLOCKS if kind == "sh" for line in body.splitlines()]
ATTACKS = [
    "my_attack.py:shrink",
    "margin_steps.py:margin_steps",
    "flips.py:flips",
    "blends.py:Blends",
    "bursts.py:bursts",
]
QUOTED = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", PAGE, flags=re.M))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The page's files, and a store of their own."""
    path = tmp_path_factory.mktemp("docs")
    for name, body in FILES.items():
        (path / name).write_text(body, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("TESTBED_STORE", str(path / "store"))
        yield path


def run(command: str) -> int:
    """The exit code of a command of the page, in this process; runs are serial."""
    words = shlex.split(command, comments=True)
    assert words[0] == "testbed", command
    more = ["--executor", "serial"] if words[1] == "run" else []
    return guarded(lambda: app(args=[*words[1:], *more], prog_name="testbed"))


def test_the_page_shows_what_is_tested_here():
    assert {
        *(name.partition(":")[0] for name in ATTACKS),
        "attacks.yaml",
        "curve.yaml",
        "broken.py",
        "broken.yaml",
    } == set(FILES)
    assert FILES["my_attack.py"].split("\n", 1)[1] == (ROOT / "experiments" / "my_attack.py").read_text(
        encoding="utf-8"
    )
    assert len([c for c in COMMANDS if "broken" in c]) == 2 and len(COMMANDS) == 11


def test_the_page_names_every_attack_that_averages_over_draws():
    section = PAGE.partition("## Randomised models")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| ") and "draws" in line]
    named = {name for cell in cells for name in re.findall(r"\w+", cell.partition(" with ")[0])}
    assert named == {
        name
        for name in plugins.installed("attack")
        if "eot" in {p.name for p in plugins.read("attack", name).parameters}
    }


@pytest.mark.parametrize("ref", ATTACKS)
def test_every_attack_of_the_page_keeps_its_contract(ref, folder):
    findings = contracts.check("attack", f"./{ref}")
    assert [finding for finding in findings if not finding.holds] == []
    assert any("cut or reordered" in finding.question for finding in findings) == (not ref.startswith("bursts"))


def test_the_commands_work(folder):
    for command in COMMANDS:
        if "broken" not in command:
            assert run(command) == 0, command
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "runs" / "attacks" / "results.parquet").to_pylist()
    accuracy = {(r["condition"], r["eps"]): r["value"] for r in rows if r["metric"] == "accuracy"}
    assert {r["status"] for r in rows} == {"ok"}
    assert (
        accuracy["margin_steps", 0.2]
        < accuracy["flips", 0.2] + 0.05
        < accuracy["shrink", 0.2]
        < accuracy["clean", None] + 0.01
    )
    assert accuracy["Blends", 2.0] < accuracy["Blends", 1.0]
    swept = pq.read_table(folder / "runs" / "curve" / "results.parquet").to_pylist()
    assert {r["status"] for r in swept} == {"ok"} and {r["metric"] for r in swept} >= {"robust_area", "median_distance"}


@pytest.mark.slow
def test_broken_attacks_say_what_the_page_says(folder, capsys):
    first, second = (command for command in COMMANDS if "broken" in command)
    assert run(first) == 1 and "exit code 1" in first
    capsys.readouterr()
    assert run(second) == 0
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "runs" / "broken" / "results.parquet").to_pylist()
    assert {r["condition"] for r in rows if r["status"] == "ok"} == {"clean"}
    assert set(QUOTED) == {r["condition"] for r in rows} - {"clean", "worst"}
    for name, said in QUOTED.items():
        numbers = re.sub(r"\d+ of \d+|\d+ examples", "", said)  # how many stand clean is the network's to say
        errors = [re.sub(r"\d+ of \d+|\d+ examples", "", r["error"]) for r in rows if r["condition"] == name]
        assert errors and all(numbers in error for error in errors), (numbers, errors)
