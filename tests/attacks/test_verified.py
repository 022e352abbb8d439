"""The file behind `testbed ls attacks --verified` is what the tests say, and says something about every attack."""

from __future__ import annotations

import ast
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from testbed import plugins


@pytest.fixture(scope="module")
def verified() -> Any:
    spec = importlib.util.spec_from_file_location("verified", Path(__file__).parent / "verified.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_current(verified: Any) -> None:
    assert json.loads(verified.FILE.read_text()) == verified.collect(), "run: python tests/attacks/verified.py"


def test_every_attack_is_checked_against_something(verified: Any) -> None:
    table = verified.collect()["attack"]
    assert set(table) == set(plugins.names("attack")), "a test of the attack needs @pytest.mark.verifies(...)"
    assert all({entry["by"] for entry in entries} & {"hand", "reference"} for entries in table.values())


def test_a_claim_says_how_and_against_what(verified: Any) -> None:
    good = '@pytest.mark.verifies("a", "b", by="hand", against="x")\ndef test_x(): ...'
    assert verified.claims(ast.parse(good), "f.py") == [
        (["a", "b"], {"by": "hand", "against": "x", "where": "f.py::test_x"})
    ]
    constant = 'VERIFIES = [{"names": ["a"], "by": "measurement", "against": "y"}]'
    assert verified.claims(ast.parse(constant), "b.py") == [
        (["a"], {"by": "measurement", "against": "y", "where": "b.py"})
    ]
    with pytest.raises(ValueError, match=r"f\.py::test_x: verifies needs against"):
        verified.claims(ast.parse(good.replace("hand", "faith")), "f.py")
