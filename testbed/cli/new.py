"""`testbed new`: a one-file plug-in that works, and the test that shows it."""

from __future__ import annotations

import keyword
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from testbed.errors import EnvironmentProblem, UsageError, nearest

KINDS = ("attack", "shift", "calibrator", "detector")


def new(
    kind: Annotated[str, typer.Argument(help=", ".join(KINDS))],
    name: Annotated[str, typer.Argument(help="What to call it: lower case, underscores.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to write; default here.")] = Path(),
) -> None:
    """Write NAME.py, a plug-in in one file, and test_NAME.py, its test."""
    if kind not in KINDS:
        raise UsageError(f"testbed new {kind}: no such kind; {nearest(kind, KINDS)}")
    word = identifier(name)
    texts = {f"{word}.py": template(kind), f"test_{word}.py": template("test")}
    folder.mkdir(parents=True, exist_ok=True)
    taken = [file for file in texts if (folder / file).exists()]
    if taken:
        raise UsageError(f"{folder / taken[0]} exists and is left as it is; choose another name or --dir")
    attribute = word if kind in ("attack", "shift") else "".join(part.title() for part in word.split("_"))
    for file, text in texts.items():
        try:
            (folder / file).write_text(filled(text, kind, word, attribute), encoding="utf-8")
        except OSError as error:
            raise EnvironmentProblem(f"cannot write {folder / file}: {error.strerror}") from None
        print(folder / file)
    ref = f"./{word}.py:{attribute}"
    where = "" if folder == Path() else f"cd {folder} && "
    print(f"\nIn a grid beside it:  use: {ref}\nCheck it:             {where}testbed check {ref}")
    print(f"Test it:              {where}pytest test_{word}.py")


def identifier(name: str) -> str:
    """A Python name from what was typed; a hyphen is an underscore.

    >>> identifier("My-Attack")
    'my_attack'
    """
    word = name.lower().replace("-", "_")
    if not word.isidentifier() or keyword.iskeyword(word) or word.startswith("_"):
        raise UsageError(f"{name!r} cannot name a Python file and function; use letters, digits and underscores")
    return word


def template(name: str) -> str:
    """The text of a template."""
    return files("testbed.cli").joinpath("templates", f"{name}.py.j2").read_text(encoding="utf-8")


def filled(text: str, kind: str, word: str, attribute: str) -> str:
    """A template with its names filled in."""
    for mark, value in {"KIND": kind, "WORD": word, "ATTRIBUTE": attribute}.items():
        text = text.replace("{{ " + mark + " }}", value)
    return text
