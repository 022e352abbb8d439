"""`testbed ls`: names, parameters, facts and papers from the entry points."""

import json

import pytest

from testbed import plugins
from testbed.cli import ls
from testbed.plugins import REQUIRED, Parameter, Plugin
from testbed.types import Paper


@pytest.mark.parametrize("kind", plugins.KINDS)
def test_every_installed_name_is_listed(kind, testbed_command, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    ended = testbed_command("ls", f"{kind}s")
    assert ended.code == 0
    first_words = {line.split(" ")[0] for line in ended.out.splitlines()}
    assert set(plugins.names(kind)) <= first_words


def test_singular_and_plural_are_one(testbed_command) -> None:
    assert testbed_command("ls", "attack").out == testbed_command("ls", "attacks").out


def test_json_carries_parameters_and_papers(testbed_command) -> None:
    found = {entry["name"]: entry for entry in json.loads(testbed_command("ls", "attacks", "--json").out)}
    assert found["pgd"]["parameters"]["steps"] == 40 and found["pgd"]["required"] == ["eps"]
    assert found["pgd"]["reference"]["year"] == 2018


def test_unknown_kind_names_the_nearest(testbed_command) -> None:
    ended = testbed_command("ls", "detectrs")
    assert ended.code == 2 and "'detectors'" in ended.err


def test_counts_without_a_kind(testbed_command) -> None:
    lines = dict(line.split() for line in testbed_command("ls").out.splitlines()[:8])
    assert int(lines["calibrators"]) == len(plugins.names("calibrator"))


def plugin(title: str, **more: object) -> Plugin:
    return Plugin("attack", title, title, (), {"reference": Paper(title, "Ann Author", 2020)} | more)


def test_one_paper_is_cited_once_and_keys_are_unique() -> None:
    entries = ls.citations([plugin("A"), plugin("A"), plugin("B"), "not available"])
    assert [entry.splitlines()[0] for entry in entries] == ["@misc{author2020,", "@misc{author2020b,"]


def test_required_parameters_stand_without_a_default() -> None:
    some = Plugin("attack", "x", "x", (Parameter("eps", float, REQUIRED), Parameter("steps", int, 10)), {})
    assert ls.spelled(some) == "eps, steps=10"


def test_only_facts_that_say_something_are_shown() -> None:
    facts = dict(plugins.FACTS["attack"]) | {"minimal": True, "norms": ("l2",), "version": 3}
    assert ls.stated("attack", facts) == "norms: l2, minimal"


def test_verified_says_what_each_attack_is_checked_against(testbed_command, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    ended = testbed_command("ls", "attacks", "--verified")
    assert ended.code == 0 and "fgsm Goodfellow 2015 reference foolbox" in " ".join(ended.out.split())
    found = json.loads(testbed_command("ls", "attack", "--verified", "--json").out)
    assert set(found) == set(plugins.names("attack"))
    assert found["fgsm"][0]["where"] == "tests/attacks/test_pgd.py::test_fgsm_is_foolbox_fgm"


def test_verified_of_a_kind_without_a_table(testbed_command) -> None:
    ended = testbed_command("ls", "datasets", "--verified")
    assert ended.code == 2 and "ls attacks --verified" in ended.err
