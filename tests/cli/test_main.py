"""Sub-commands are found lazily, and every way to end has its message and exit code."""

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from testbed import cli
from testbed.detection.base import FitWarning
from testbed.errors import EnvironmentProblem, Problem, UsageError


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_listed_command_exists_and_explains_itself(name, testbed_command) -> None:
    ended = testbed_command(name, "--help")
    assert ended.code == 0, ended.err
    assert f"testbed {name}" in ended.out


def test_help_lists_every_command_with_its_line(testbed_command, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ended = testbed_command("--help")
    assert ended.code == 0
    for name, (_, line) in cli.COMMANDS.items():
        assert name in ended.out and line in ended.out


def test_unknown_command_names_the_nearest(testbed_command) -> None:
    ended = testbed_command("repotr")
    assert ended.code == 2
    assert "did you mean 'report'" in " ".join(ended.err.split())


def test_unknown_option_is_wrong_usage(testbed_command) -> None:
    ended = testbed_command("version", "--jsno")
    assert ended.code == 2 and "--jsno" in ended.err


def fail(error: BaseException):
    def command() -> None:
        raise error

    return command


def test_a_users_mistake_is_a_message_not_a_traceback(capsys) -> None:
    assert cli.guarded(fail(EnvironmentProblem("disk full: free some"))) == 3
    assert capsys.readouterr().err == "error: disk full: free some\n"


def test_problems_of_a_grid_start_with_their_place(capsys) -> None:
    problems = [
        Problem("g.yaml", 14, 7, "conditions[1].epss", "unknown key"),
        Problem("g.yaml", 2, 1, "nam", "unknown key"),
    ]
    assert cli.guarded(fail(UsageError(problems))) == 2
    assert capsys.readouterr().err == "g.yaml:2:1  nam: unknown key\ng.yaml:14:7  conditions[1].epss: unknown key\n"


def test_a_warning_is_one_line_and_says_its_place_if_it_is_anothers(capsys) -> None:
    def warn() -> None:
        warnings.warn("singular covariance", FitWarning, stacklevel=1)
        warnings.warn("odd", RuntimeWarning, stacklevel=1)

    assert cli.guarded(warn) == 0
    own, other = capsys.readouterr().err.splitlines()
    assert own == "warning: singular covariance"
    assert other.startswith("warning: odd (RuntimeWarning, ") and "test_main.py" in other


def test_ctrl_c_is_130(capsys) -> None:
    assert cli.guarded(fail(KeyboardInterrupt())) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_defect_says_where_its_traceback_is(capsys) -> None:
    assert cli.guarded(fail(ZeroDivisionError("division by zero"))) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "internal error: ZeroDivisionError: division by zero"
    assert len(lines) == 2
    kept = Path(lines[1].rpartition(" ")[2])
    assert "raise error" in kept.read_text() and "ZeroDivisionError" in kept.read_text()
    kept.unlink()


@pytest.mark.parametrize(
    ("end", "code"), [(SystemExit(), 0), (SystemExit(5), 5), (SystemExit("text"), 1), (None, 0)], ids=str
)
def test_an_exit_keeps_its_code(end, code) -> None:
    assert cli.guarded(fail(end) if end else (lambda: None)) == code


def test_a_reader_that_leaves_early_is_no_defect(synthetic_run) -> None:
    """`testbed query ... | head -1`: no traceback, no internal error."""
    command = [
        sys.executable,
        "-c",
        "from testbed.cli import main; main()",
        "query",
        "SELECT a.* FROM samples a, range(20)",
        str(synthetic_run),
        "--csv",
    ]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert first.stdout.readline().startswith("dataset,")
    first.stdout.close()
    assert "internal error" not in first.stderr.read()
    assert first.wait(timeout=60) == 1


ATTACK = "\x1b]0;owned\x07\x1b[2J\x9b31mred\u202e"


def test_nothing_that_a_terminal_obeys_is_printed(capsys) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console

    table = Table()
    table.add_column(Text("na\x1bme"))
    table.add_row(Text(ATTACK))
    console(width=60).print(table)
    console(width=60).print(ATTACK, markup=False)
    cli.say(ATTACK + "\n\tand more")
    out, err = capsys.readouterr()
    for printed in (out, err):
        assert not set(printed) & set("\x1b\x07\x9b\u202e") and "red" in printed
    assert "name" in out and err.endswith("31mred\n\tand more\n")


@pytest.mark.parametrize("style", ["lines", "bars"])
def test_progress_obeys_no_label(style) -> None:
    import io
    import types

    from testbed.runner.events import Event
    from testbed.runner.progress import progress

    job = types.SimpleNamespace(digest="d", label=ATTACK + "[/x]", kind="k", cost={})
    out = io.StringIO()
    with progress(style, [], out) as listener:
        listener(Event("planned", None, {"total": 1, "cached": 0}))
        listener(Event("started", job))
        failed = {"status": "failed", "seconds": 1.0, "error": ATTACK}
        listener(Event("finished", job, failed))
    assert not set(out.getvalue()) & set("\x1b\x07\x9b\u202e") and "red" in out.getvalue()
