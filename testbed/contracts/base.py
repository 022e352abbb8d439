"""What all contract checks share: one question, one finding; which kind a reference is; does the plug-in travel."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed import plugins
from testbed.errors import TestbedError, UsageError, nearest
from testbed.plugins import FACTS, REQUIRED, Plugin

CHECKED: Final = ("attack", "shift", "calibrator", "detector")

#: What a plug-in of each kind is called with, as the plan tells kinds apart.
_CALLED: Final[Mapping[str, tuple[str, ...]]] = {"attack": ("model", "x", "y"), "shift": ("images",)}
_METHODS: Final[Mapping[str, set[str]]] = {"calibrator": {"fit", "probs"}, "detector": {"fit", "score"}}


@dataclass(frozen=True)
class Finding:
    """One question and its answer; `detail` says what was expected and what came where it does not hold."""

    question: str
    holds: bool
    detail: str = ""


Question = tuple[str, Callable[[], None]]


class Broken(Exception):
    """Raised by a question that does not hold."""


def check(kind: str, ref: str, base: Path | None = None, **params: Any) -> list[Finding]:
    """Ask a plug-in all questions of its kind. `params` are its parameters (and `norm`, `eps` of an attack).

    Raises UsageError for a kind that has no contract, an unknown reference, and parameters that do not fit.
    """
    if kind not in CHECKED:
        raise UsageError(f"no contract for {kind!r}; {nearest(kind, CHECKED)}")
    plugin = plugins.read(kind, ref, base)
    questions = importlib.import_module(f"testbed.contracts.{kind}").questions
    asked: Sequence[Question] = [*questions(plugin, params), *_common(plugin, params)]
    return list(_answers(asked))


def _answers(asked: Sequence[Question]) -> Iterator[Finding]:
    for question, answer in asked:
        try:
            answer()
        except (Broken, TestbedError) as error:
            yield Finding(question, False, str(error))
        except Exception as error:
            yield Finding(question, False, f"raised {type(error).__name__}: {error}{_where(error)}")
        else:
            yield Finding(question, True)


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"


def expect(holds: Any, message: str) -> None:
    """Raise `Broken` with the message unless `holds`."""
    if not bool(holds):
        raise Broken(message)


def kind_of(ref: str, base: Path | None = None) -> str:
    """The kind of a reference, told by how it is called; UsageError where that leaves more than one or none."""
    head = ref.rpartition(":")[0]
    if not head.endswith(".py"):
        found = [kind for kind in CHECKED if (head or ref).replace("-", "_") in plugins.installed(kind)]
        found = found or [kind for kind in CHECKED if head and _fits(plugins.read(kind, ref, base), kind)]
    else:
        plugin = plugins.read("attack", ref, base)
        found = [kind for kind in CHECKED if _fits(plugin, kind)]
    if not found and not head:
        known = [name for kind in CHECKED for name in plugins.installed(kind)]
        raise UsageError(f"no plug-in {ref!r} with a contract is installed; {nearest(ref, known)}")
    if len(found) != 1:
        names = " or ".join(found) or "none of " + ", ".join(CHECKED)
        raise UsageError(f"{ref}: this could be {names}; say which with --kind")
    return found[0]


def _fits(plugin: Plugin, kind: str) -> bool:
    """Whether the source of a plug-in has the call, or the methods, of a kind."""
    named = [n for n in ast.parse(plugin.source or "").body if getattr(n, "name", "") == plugin.name]
    node = named[0] if named else None
    methods = {n.name: n for n in getattr(node, "body", []) if isinstance(n, ast.FunctionDef)}
    if kind in _METHODS:
        return isinstance(node, ast.ClassDef) and _METHODS[kind] <= set(methods)
    call = methods.get("__call__") if isinstance(node, ast.ClassDef) else node
    if not isinstance(call, ast.FunctionDef):
        return False
    arguments = tuple(a.arg for a in call.args.args if a.arg != "self")
    return arguments[: len(_CALLED[kind])] == _CALLED[kind] or (kind == "shift" and len(arguments) == 1)


def _common(plugin: Plugin, params: Mapping[str, Any]) -> list[Question]:
    if plugin.source is None:
        return []
    return [
        ("the facts that the plan reads are those of the code", lambda: _facts(plugin)),
        ("it travels: what the plan read of it loads in a fresh process in another folder", lambda: _travels(plugin)),
    ]


def _facts(plugin: Plugin) -> None:
    target = plugin.loader()
    for name, planned in plugin.facts.items():
        held = getattr(target, name, FACTS[plugin.kind][name]) if isinstance(target, type) else planned
        plain = list(held) if isinstance(held, tuple) else held
        same = plain == (list(planned) if isinstance(planned, tuple) else planned)
        expect(
            same or name == "reference",
            f"{name}: the plan reads {planned!r}, the class holds {held!r}; write it as a literal",
        )


_TRAVEL = """
import json, sys
from testbed import plugins
given = json.load(sys.stdin)
plugin = plugins.from_recipe(given["kind"], given["identity"], given["sources"].__getitem__)
plugin.loader()
"""


def _travels(plugin: Plugin) -> None:
    """A worker has the texts that the plan read, the plug-in's and its imports', and nothing else of this disk."""
    identity = {"use": plugin.name, "source": plugin.source_digest, "version": plugin.facts["version"]}
    if plugin.code is not None:
        identity |= {"modules": {key: one.digest for key, one in plugin.code.modules.items()}}
    given = json.dumps({"kind": plugin.kind, "identity": identity, "sources": plugin.sources})
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(
            [sys.executable, "-c", _TRAVEL], input=given, capture_output=True, text=True, cwd=elsewhere
        )
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    expect(
        done.returncode == 0,
        f"a worker could not load it: {last[0]}; import its helpers by name, or install them as a package",
    )


def missing(plugin: Plugin, params: Mapping[str, Any]) -> list[str]:
    """Parameters without a default that were not given."""
    return [p.name for p in plugin.parameters if p.default is REQUIRED and p.name not in params]
