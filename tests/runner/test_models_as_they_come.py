"""One network in the forms that people bring it in gives one row of numbers; what is wrong with a model is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from testbed.grid.planner import plan
from testbed.runner.run import evaluate

NETS = """
import math, torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes=10, width=12, act=nn.ReLU):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, width), act()), nn.Linear(width, classes)
    def forward(self, x):
        return 3 * self.head(self.body(x))

class Wider(Net):
    pass

class As(Net):
    def __init__(self, form):
        super().__init__()
        self.form = form
    def forward(self, x):
        z = super().forward(x)
        bad = x.flatten(1).mean(1, keepdim=True) > 0.32
        return {"tuple": (x, z), "dict": {"aux": x, "logits": z}, "probs": z.softmax(1),
                "nan": z.masked_fill(bad, math.nan)}[self.form]

def plain(spec): return Net()
def without(width=12): return Net(width=width)
def scripted(spec): return torch.jit.script(Net())
def int8(): return torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, dtype=torch.qint8)
def form(spec, *, form): return As(form)
def bug(spec): return Bug()
def nothing(spec): Net()

class Bug(Net):
    def forward(self, x):
        return super().forward(x) + undefined_thing
"""
SAME: list[dict[str, Any]] = [
    {"use": "./nets.py:plain", "name": "plain"},
    {"use": "./nets.py:Net", "name": "class", "width": 12},
    {"use": "./nets.py:Wider", "name": "inherits"},
    {"use": "./nets.py:without", "name": "without"},
    {"use": "./nets.py:scripted", "name": "scripted"},
    {"use": "./nets.py:form", "name": "tuple", "form": "tuple", "output": 1},
    {"use": "./nets.py:form", "name": "dict", "form": "dict", "output": "logits"},
    {"use": "./nets.py:form", "name": "probs", "form": "probs", "scores": "probs"},
]
ODD: list[dict[str, Any]] = [
    {"use": "./nets.py:int8", "name": "int8"},
    {"use": "./nets.py:form", "name": "softmax", "form": "probs"},
    {"use": "./nets.py:form", "name": "nan", "form": "nan"},
    {"use": "./nets.py:form", "name": "no key", "form": "dict"},
    {"use": "./nets.py:bug", "name": "bug"},
    {"use": "./nets.py:nothing", "name": "nothing"},
]


def grid(models: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": "forms", "data": [{"use": "digits", "calibration": 60, "test": 90}], "models": models,
        "conditions": ["clean", {"attack": {"use": "pgd", "steps": 2}, "eps": 0.1}],
        "calibrators": ["none", "temperature"], "metrics": ["accuracy", "ece", "nll"],
        "intervals": {"replicates": 20},
    }  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp("forms")
    (folder / "nets.py").write_text(NETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TESTBED_STORE", str(folder / "store"))
        found: list[dict[str, Any]] = evaluate(grid(SAME + ODD), out=folder / "out", executor="serial").to_pylist()
    return found


def of(rows: list[dict[str, Any]], model: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    keys = ("condition", "calibrator", "metric", "convention")
    return {tuple(row[k] for k in keys): row for row in rows if row["model"] == model and row["metric"] != "audit"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", [one["name"] for one in SAME[1:]])
def test_one_network_in_many_forms(rows: list[dict[str, Any]], model: str) -> None:
    want, got = of(rows, "plain"), of(rows, model)
    assert want.keys() == got.keys() and all(row["status"] == "ok" for row in got.values())
    for key, row in want.items():
        assert got[key]["value"] == pytest.approx(row["value"], rel=1e-3 if key[1] == "temperature" else 1e-5, abs=1e-7)
    assert not any("softmax_as_logits" in row["flags"] for row in got.values())


def test_int8_runs(rows: list[dict[str, Any]]) -> None:
    assert all(row["status"] == "ok" and row["value"] is not None for row in of(rows, "int8").values())


def test_probabilities_taken_for_logits_are_flagged_in_every_row(rows: list[dict[str, Any]]) -> None:
    assert all("softmax_as_logits" in row["flags"] for row in of(rows, "softmax").values())
    clean = {key: row["value"] for key, row in of(rows, "softmax").items() if key[0] == "clean"}
    right = {key: row["value"] for key, row in of(rows, "probs").items() if key[0] == "clean"}
    nll = next(key for key in clean if key[1:3] == ("none", "nll"))
    assert clean[nll] != pytest.approx(right[nll], rel=0.01)


def test_examples_without_an_answer_are_wrong_and_counted(rows: list[dict[str, Any]]) -> None:
    found = of(rows, "nan")
    assert all(row["status"] == "ok" and row["value"] is not None for row in found.values())
    for key, row in found.items():
        assert "no_answer=" in row["flags"]
        if key[2] == "accuracy":
            assert row["value"] <= of(rows, "plain")[key]["value"]
            assert row["n"] == 90


def test_random_weights_and_chance_are_flagged(rows: list[dict[str, Any]]) -> None:
    flags = [row["flags"] for row in of(rows, "plain").values()]
    assert all("random_weights" in flag and "at_chance" in flag for flag in flags)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("no key", "DataError: As: expected logits [n k], got a dict with keys 'aux', 'logits'; say which part has "
                   "them: `output: logits`"),
        ("bug", "the forward of the model Bug raised NameError: name 'undefined_thing' is not defined"),
        ("nothing", "the model plug-in gave nothing (does it return the network?)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(rows: list[dict[str, Any]], model: str, says: str) -> None:
    assert all(says in row["error"] for row in of(rows, model).values())
    if model == "bug":
        assert all(
            "of its file: return super().forward(x) + undefined_thing" in r["error"] for r in of(rows, model).values()
        )
        assert all(r["error"].startswith("needs weights bug") for r in of(rows, model).values())


def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **parts: Any) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "own.py").write_text(
        "def own(spec):\n    net = make()\n    net.load_state_dict(read())\n    return net\n"
    )
    text = "name: one\ndata: [{use: digits, calibration: 60, test: 90}]\n"
    text += f"models: [{parts.get('model', '{use: small_cnn, train: {epochs: 1}}')}]\n"
    text += f"conditions: [clean, {parts.get('condition', 'clean')}]\n"
    (tmp_path / "grid.yaml").write_text(text.replace(", clean]", "]"))
    return "\n".join(plan(tmp_path / "grid.yaml").notes)


@pytest.mark.parametrize(
    ("model", "random"),
    [
        ("small_cnn", True), ("{use: './nets.py:Net'}", True), ("{use: './own.py:own'}", False),
        ("{use: small_cnn, train: {epochs: 1}}", False),
    ],
)  # fmt: skip
def test_a_model_without_weights_is_a_note_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, random: bool
) -> None:
    assert ("grid.yaml:3:" in (found := notes(tmp_path, monkeypatch, model=model))) == random
    assert ("flagged random_weights" in found) == random


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("{attack: pgd, eps: 8}", "grid.yaml:4:"), ("{attack: pgd, eps: 8}", "did you mean 8/255?"),
        ("{attack: pgd, eps: 8/255}", ""), ("{attack: pgd, norm: l2, eps: 8}", "eps 8 in l2 covers the whole box"),
        ("{attack: pgd, norm: l2, eps: 7.9}", ""),
    ],
)  # fmt: skip
def test_an_eps_as_wide_as_the_box_is_a_note_of_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, condition: str, says: str
) -> None:
    found = notes(tmp_path, monkeypatch, condition=condition)
    assert says in found if says else not found
