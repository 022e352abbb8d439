"""A plug-in that breaks its contract is a failed cell that says what it did; everything else finishes."""

import os

import pytest
import torch

from testbed import plugins
from testbed.data.packaged import Digits
from testbed.models import build

BODIES = {
    "leaves the ball": ("return (x + 3 * eps).clamp(0, 1)", "ball"),
    "leaves the bounds": ("return x * 0 + 2", "left the bounds"),
    "returns NaN": ("return x * float('nan')", "NaN"),
    "returns another shape": ("return x[:, :, :-1]", "shape"),
    "changes the weights": ("[p.data.zero_() for p in model.module.parameters()]; return x", "weights"),
    "raises": ("raise RuntimeError('out of luck')", "out of luck"),
    "returns nothing": ("return None", "NoneType"),
    "leaves the process": ("import sys; sys.exit(3)", ""),
}


def plugin(body):
    return f"def attack(model, x, y, *, eps: float, rng):\n    {body}\n"


@pytest.mark.parametrize("what", BODIES)
def test_a_violation_is_a_failed_cell_that_names_it(what, tiny, runs, tmp_path, look):
    body, said = BODIES[what]
    (tmp_path / "mine.py").write_text(plugin(body))
    tiny["conditions"].append({"attack": "./mine.py:attack", "eps": 0.05})
    finished = runs(tiny)
    broken = look.rows(finished, condition="attack")
    assert broken and all(row["status"] in ("failed", "skipped") and row["value"] is None for row in broken)
    assert all(said in row["error"] for row in broken)
    assert all(row["status"] == "ok" for row in look.rows(finished) if row["condition"] != "attack")


def test_a_failed_attack_is_not_averaged_into_the_worst_case(tiny, runs, tmp_path, look):
    (tmp_path / "mine.py").write_text(plugin("raise RuntimeError('no')"))
    tiny["conditions"].append({"attack": "./mine.py:attack", "eps": 0.1})
    finished = runs(tiny)
    worst = look.rows(finished, condition="worst")
    assert worst and all(row["status"] == "skipped" and row["value"] is None for row in worst)


def test_a_failure_is_retried_unless_it_is_to_be_kept(tiny, runs, tmp_path, look):
    (tmp_path / "mine.py").write_text(plugin("raise RuntimeError('no')"))
    tiny["conditions"].append({"attack": "./mine.py:attack", "eps": 0.05})
    runs(tiny)
    assert "attack" in look.started(runs(tiny))
    kept = runs(tiny, retry=False)
    assert look.started(kept) == [] and not kept.outcome.ok


def test_a_hanging_plugin_is_killed_at_the_timeout(tiny, runs, tmp_path, look):
    runs(tiny)
    (tmp_path / "mine.py").write_text(plugin("import time; time.sleep(600)"))
    tiny["conditions"].append({"attack": "./mine.py:attack", "eps": 0.05})
    finished = runs(tiny, timeout=15.0)
    broken = look.rows(finished, condition="attack")
    assert broken and all("15 s" in row["error"] for row in broken)
    assert all(row["status"] == "ok" for row in look.rows(finished) if row["condition"] != "attack")


def test_a_detector_without_its_features_says_why(tiny, runs, tmp_path, look):
    (tmp_path / "net.py").write_text(
        "import torch\n\ndef make(spec):\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(1, 10, 8), torch.nn.Flatten())\n"
    )
    tiny["models"] = [{"use": "./net.py:make", "name": "conv"}]
    tiny |= {"detectors": ["msp", "knn"], "ood": ["gaussian"], "metrics": ["auroc"]}
    finished = runs(tiny)
    assert all(row["status"] == "ok" for row in look.rows(finished, detector="msp"))
    lacking = look.rows(finished, detector="knn")
    assert lacking and all("features" in row["error"] for row in lacking)


def test_an_unwritable_run_folder_is_said_before_anything_runs(tiny, runs, tmp_path):
    from testbed.errors import EnvironmentProblem

    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="choose another with --out"):
        runs(tiny, out=tmp_path / "file" / "run")


class Code:
    """Asks the unpickler to call something."""

    def __reduce__(self):
        return os.system, ("touch ran",)


def test_a_refused_or_unfitting_weights_file_fails_its_model_only(tiny, runs, tmp_path, look, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = build.module(plugins.read("model", "small_cnn").build(), Digits().spec())
    state = net.state_dict()
    torch.save(state, "good.pt")
    torch.save({key: value.bfloat16() for key, value in state.items()}, "half.pt")
    torch.save({key: value[:7] if key.startswith("fc2") else value for key, value in state.items()}, "seven.pt")
    torch.save({"state_dict": Code()}, "code.pt")
    (tmp_path / "page.pt").write_text("<html>not found</html>")
    said = {
        "seven": "the weights of seven.pt do not fit SmallCnn:\n  'fc2.weight': the model has shape [10, 100], the fil",
        "code": "code.pt is refused: it is a pickle that would run code, or is damaged (it asks for posix.system)",
        "page": "page.pt is refused: ",
    }
    tiny["models"] = [{"use": "small-cnn", "name": n, "weights": f"{n}.pt"} for n in ("good", "half", *said)]
    finished = runs(tiny)
    again = runs(tiny)

    for run in (finished, again):
        for row in look.rows(run, metric="accuracy"):
            wrong = said.get(row["model"])
            assert row["status"] == ("skipped" if wrong else "ok"), row["error"]
            assert wrong is None or wrong in row["error"]
    assert not (tmp_path / "ran").exists()
    assert set(look.started(again)) == {"file", "weights"}
