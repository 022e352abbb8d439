"""Asking a user's data set which files it is made of, in a process of its own: nothing of a user's runs in a plan.

Only one that has `files()` or `identity()` is asked, and nothing else of it.
"""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from testbed.data.base import fingerprint
from testbed.digest import canonical
from testbed.errors import DataError, TestbedError
from testbed.grid.reader import Where
from testbed.grid.resolved import Bound
from testbed.plugins import Plugin

#: Hashing counts: a set of 100 GB takes about this long on a slow disk.
_PATIENCE_SECONDS: Final = 600.0


class Resolver(Protocol):
    """What is needed of the resolver: see `testbed.grid.resolve`. places: digest of a file -> its path."""

    places: dict[str, str]

    def fail(self, where: Where, message: str) -> None:
        """Note a problem."""


def known(resolver: Resolver, dataset: Any) -> dict[str, Any]:
    """The fingerprint of an installed data set; which digest is of which file is noted."""
    found = fingerprint(dataset)
    if found["files"]:
        resolver.places |= dict(zip(found["files"], map(str, dataset.files()), strict=True))
    return found


def content(resolver: Resolver, where: Where, bound: Bound) -> dict[str, Any]:
    """The fingerprint of a user's data set, where it says which files it is made of; a problem where asking fails."""
    if not answers(bound.plugin):
        return {}
    try:
        found, files = fingerprint_of(bound)
    except TestbedError as error:
        resolver.fail(where, f"data set {bound.plugin.name!r}: {error}")
        return {}
    resolver.places |= files
    return found


def answers(plugin: Plugin) -> bool:
    """Whether a user's data set says which files it is made of (or inherits, so that only running it tells)."""
    named = [n for n in ast.parse(plugin.source or "").body if getattr(n, "name", "") == plugin.name]
    methods = {getattr(one, "name", "") for node in named for one in getattr(node, "body", ())}
    return bool(methods & {"files", "identity"}) or any(getattr(node, "bases", ()) for node in named)


def fingerprint_of(bound: Bound) -> tuple[dict[str, Any], dict[str, str]]:
    """What decides the content of a user's data set, as `testbed.data.base.fingerprint` has it; digest -> file.

    Raises DataError where asking it fails.
    """
    given = {
        "recipe": bound.recipe(), "sources": bound.plugin.sources, "places": bound.places,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "answer.json")
        command = [sys.executable, "-P", "-c", f"from testbed.grid.asking import answer; answer({str(out)!r})"]
        path = os.pathsep.join(p for p in sys.path if p)
        try:
            done = subprocess.run(
                command,
                input=canonical(given).encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=_PATIENCE_SECONDS,
                env={**os.environ, "PYTHONPATH": path},
            )
        except subprocess.TimeoutExpired:
            raise DataError(f"asked for its files(), it gave no answer in {_PATIENCE_SECONDS:g} s") from None
        if not out.is_file():
            code = done.returncode
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
            why = f"killed by {signal.Signals(-code).name}" if code < 0 else last[0] or f"exit code {code}"
            raise DataError(f"asked for its files(), its process ended ({why})")
        found = json.loads(out.read_text(encoding="utf-8"))
    if "error" in found:
        raise DataError(f"asked for its files(): {found['error']}")
    return found["fingerprint"], found["files"]


def answer(out: str) -> None:
    """The process that asks: the data set comes on standard input, the answer goes to a file."""
    from testbed import loading
    from testbed.plugins import from_recipe

    given: Mapping[str, Any] = json.load(sys.stdin)
    loading.one_job(given["places"])
    try:
        plugin = from_recipe("dataset", given["recipe"], given["sources"].__getitem__)
        dataset = plugin.build(**given["recipe"]["params"])
        found = fingerprint(dataset)
        paths = [str(Path(path).absolute()) for path in dataset.files()] if hasattr(dataset, "files") else []
        said: dict[str, Any] = {"fingerprint": found, "files": dict(zip(found["files"], paths, strict=True))}
    except (Exception, SystemExit) as error:
        said = {"error": str(error) if isinstance(error, TestbedError) else f"{type(error).__name__}: {error}"}
    text = json.dumps(said)
    fresh = Path(out).with_suffix(".new")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(out)
