"""The command line: a table of sub-commands, each imported only when it is asked for.

`testbed --help` reads the table below and nothing else, so it imports neither torch nor ray nor pyarrow. A target is
`module:attribute`; the attribute is a function with typer annotations, or a `typer.Typer` with commands of its own.

How a command ends: it returns (exit code 0), raises `typer.Exit(code)`, or raises. A `TestbedError` is shown as its
message and gives its own exit code; Ctrl-C gives 130; anything else is a defect of this program: stderr says where the
traceback was written, and the exit code is 1. Wrong usage gives 2.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, TextIO

import typer
from typer.core import TyperCommand, TyperGroup

from testbed.errors import TestbedError, UsageError, harmless, nearest

#: name -> (module:attribute, one line for `testbed --help`).
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("testbed.cli.run:run", "Run a grid. Running it again continues, and does only what is missing."),
    "plan": ("testbed.cli.plan:plan", "Resolve every cell of a grid, count the work, run nothing."),
    "report": ("testbed.cli.report:report", "One HTML page of a run that opens offline, or its table as text."),
    "reproduce": ("testbed.cli.reproduce:reproduce", "Run one published table and put ours beside it."),
    "compare": ("testbed.cli.compare:compare", "Paired comparison of two runs; exit 1 on a significant regression."),
    "monitor": ("testbed.cli.monitor:monitor", "Replay a stream after deployment: late labels, drift, rollbacks."),
    "query": (
        "testbed.cli.query:query",
        "SQL over the rows of a run: views results, samples, jobs, regressions, stream.",
    ),
    "ls": ("testbed.cli.ls:ls", "Attacks, shifts, calibrators, detectors, data sets, models, metrics, papers."),
    "new": ("testbed.cli.new:new", "Write a one-file plug-in and its test."),
    "check": ("testbed.cli.check:check", "Run the contract tests of the built-ins on your plug-in."),
    "schema": ("testbed.cli.schema:schema", "The JSON schema of a grid or a stream, for an editor."),
    "export": ("testbed.cli.export:export", "A perturbed set as Hugging Face data set, parquet, npy or images."),
    "data": ("testbed.cli.data:app", "get: download with checksum and resume; audit: near-duplicates."),
    "store": ("testbed.cli.store:app", "verify, gc, du and merge stores of artifacts."),
    "version": ("testbed.cli.version:version", "Versions, package lock and machine."),
}


class LazyGroup(TyperGroup):
    """A group whose commands are stand-ins with a summary until one of them is invoked (or completed)."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands.update({name: TyperCommand(name=name, help=line) for name, (_, line) in COMMANDS.items()})

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the table, which is the order in which people need them."""
        return list(COMMANDS)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Import the command that `args` begins with; an unknown one is an error that names the nearest."""
        name = args[0]
        if name in COMMANDS:
            self.commands[name] = load(name)
        elif not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no command {name!r}; {nearest(name, COMMANDS)}")
        return super().resolve_command(ctx, args)


def load(name: str) -> Any:
    """The click command of a name in `COMMANDS`, imported now."""
    module, attribute = COMMANDS[name][0].split(":")
    target = getattr(importlib.import_module(module), attribute)
    if isinstance(target, typer.Typer):
        return typer.main.get_command(target)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name=name)(target)
    return typer.main.get_command(app)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="How far can a classifier be trusted? Accuracy, calibration and OOD detection under attack and shift.",
)


@app.callback()
def _root() -> None:
    """A callback without options, so that the sub-commands stay sub-commands even if only one is left."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    sys.exit(guarded(lambda: app(args=None if arguments is None else list(arguments), prog_name="testbed")))


def guarded(command: Callable[[], Any]) -> int:
    """The exit code of `command`, its error shown as the module docstring says.

    >>> guarded(lambda: None)
    0
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = one_line
            command()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except TestbedError as error:
        say(str(error) if isinstance(error, UsageError) and error.problems else f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt as stop:
        say(str(stop) or "interrupted")
        return 130
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone: nobody is left to tell
        return 1
    except Exception as error:
        say(f"internal error: {type(error).__name__}: {error}")
        say(f"This is a defect of testbed; the traceback is in {keep_traceback()}")
        return 1


def one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning in one line; where it comes from is said only of other packages' ones."""
    place = "" if category.__module__.startswith("testbed") else f" ({category.__name__}, {filename}:{lineno})"
    say(f"warning: {message}{place}")


def say(message: str) -> None:
    """A line for people, on stderr so that it never mixes with data."""
    print(harmless(message), file=sys.stderr, flush=True)


def keep_traceback() -> str:
    """Write the traceback of the exception being handled to a new file; its path."""
    with tempfile.NamedTemporaryFile("w", prefix="testbed-", suffix=".traceback.txt", delete=False) as file:
        file.write(traceback.format_exc())
    return file.name
