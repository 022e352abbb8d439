"""The command line in this process: exit code, stdout and stderr of `testbed ARGUMENTS`."""

from typing import NamedTuple

import pytest

from testbed.cli import app, guarded


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def testbed_command(capsys, monkeypatch):
    """`testbed_command("ls", "attacks")` runs it and gives how it ended."""
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: object) -> Ended:
        code = guarded(lambda: app(args=[str(a) for a in arguments], prog_name="testbed"))
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run
