"""Why a plug-in does not take the parameters that a grid gives it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from testbed.errors import MissingExtra, TestbedError, nearest
from testbed.grid.problems import say
from testbed.grid.reader import Where
from testbed.grid.resolved import Bound
from testbed.parameters import misfit
from testbed.plugins import Plugin


def wrong_parameters(
    plugin: Plugin, what: str, error: ValidationError, beside: Iterable[str]
) -> Iterator[tuple[Where, str]]:
    """What is wrong with parameters that failed validation, and where among them; `beside` are an entry's own keys.

    A value is told about in the words of its parameter's declaration, where that says what is wrong.
    """
    declared = {p.name: p.annotation for p in plugin.parameters}
    for item in error.errors():
        loc = item["loc"]
        if item["type"] == "extra_forbidden":
            yield loc, f"unknown key of {what}; {nearest(str(loc[-1]), {*declared, *beside})}"
        elif item["type"] == "missing":
            yield (), f"{what} needs {loc[0]!r}"
        else:
            said = misfit(declared.get(str(loc[0]), Any), item["input"]) if len(loc) == 1 else None
            yield loc, f"{what}: {said or say(item, loc)}"


def check_paths(bound: Bound) -> None:
    """OSError where a data set's file is a pipe or a device, which reading it would wait for."""
    for name in bound.plugin.facts["paths"]:
        path = Path(str(bound.params[name])).expanduser()
        if path.exists() and not path.is_dir() and not path.is_file():
            raise OSError(f"{name}: {str(path)!r} is a pipe or a device, not a file")


def refusal(bound: Bound) -> str | None:
    """Why an installed plug-in refuses its parameters together, None where it takes them; a user's is not executed."""
    if bound.plugin.source is not None:
        return None
    try:
        bound.plugin.build(**bound.params)
    except MissingExtra:
        return None  # told where packages are checked
    except (TestbedError, ValueError, TypeError, ArithmeticError) as error:
        return str(error)
    return None
