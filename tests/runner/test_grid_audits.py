"""The full audit of a grid: further attacks in the plan, each check a number with a verdict; masks are flagged."""

import pytest

from testbed.grid.planner import plan

NETS = """\
import torch

def net(spec, *, mask: str = "none"):
    return Masked(spec, mask)

class Rounding(torch.nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask = mask

    def forward(self, x):
        return (x * 7).round() / 7 if self.mask == "quantised" else x

class Masked(torch.nn.Module):
    def __init__(self, spec, mask):
        super().__init__()
        pixels = spec.shape[0] * spec.shape[1]
        self.layers = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(pixels, 32), torch.nn.ReLU(),
                                          torch.nn.Linear(32, spec.classes))
        self.mask, self.rounding = mask, Rounding(mask)

    def forward(self, x):
        x = self.rounding(x)
        z = self.layers(x)
        if self.mask == "temperature" and not self.training:
            z = 3000 * z
        if self.mask == "randomised":
            z = z + 0.05 * torch.randn_like(z)
        return z
"""


@pytest.fixture
def audited(tiny, tmp_path):
    (tmp_path / "nets.py").write_text(NETS)
    train = {"recipe": "standard", "epochs": 4}
    tiny["models"] = [{"use": "./nets.py:net", "name": "plain", "train": train}]
    tiny["conditions"] = [{"attack": {"use": "apgd_t", "steps": 30, "targets": 3}, "eps": 0.05}]
    return tiny | {"audit": "full", "metrics": ["accuracy"], "calibrators": ["none"]}


def failed(finished, look, **where):
    rows = look.rows(finished, metric="audit", **where)
    assert rows and all(row["status"] == "ok" for row in rows), finished.outcome.errors()
    return {row["convention"].split(" ")[0] for row in rows if row["flags"] == "fail"}


def test_a_strong_attack_on_a_plain_net_passes_and_every_check_is_a_row(audited, runs, look):
    finished = runs(audited)
    assert failed(finished, look) == set()
    checks = {row["convention"].split(" ")[0] for row in look.rows(finished, metric="audit")}
    assert checks >= {
        "zero_gradient_share", "randomised_forward", "monotone", "reaches_zero", "single_step", "more_effort",
        "black_box", "ce_margin_gap",
    }  # fmt: skip
    assert look.rows(finished, metric="accuracy")[0]["flags"] == "audit:pass"


def test_a_weak_attack_is_flagged_and_does_not_taint_the_worst_case(audited, runs, look):
    weak = {"use": "pgd", "steps": 2, "step_size": 0.002, "random_start": False}
    audited["conditions"].append({"attack": weak, "eps": 0.05})
    finished = runs(audited)
    assert "more_effort" in failed(finished, look, condition="pgd")
    assert "more_effort" in look.rows(finished, metric="accuracy", condition="pgd")[0]["flags"]
    assert look.rows(finished, metric="accuracy", condition="worst")[0]["flags"] == "audit:pass"


@pytest.mark.parametrize(
    ("mask", "flag"),
    [("temperature", "ce_margin_gap"), ("quantised", "zero_gradient_share"), ("randomised", "randomised_forward")],
)
def test_masked_nets_are_flagged(audited, runs, look, mask, flag):
    audited["models"][0] |= {"name": mask, "mask": mask}
    audited["conditions"] = [{"attack": {"use": "pgd", "steps": 10}, "eps": 0.1}]
    assert flag in failed(runs(audited), look)


def test_bpda_past_the_named_layer_finds_what_the_mask_hid(audited, runs, look):
    audited["models"][0] |= {"name": "quantised", "mask": "quantised"}
    pgd = {"use": "pgd", "steps": 10}
    audited["conditions"] = [{"attack": pgd, "eps": 0.1, "victim": ["model", "bpda:rounding"]}]
    finished = runs(audited)
    robust = {r["victim"]: r["value"] for r in look.rows(finished, metric="accuracy", condition="pgd")}
    assert robust["bpda:rounding"] < robust["model"] - 0.2
    worst = look.rows(finished, metric="accuracy", condition="worst")[0]["value"]
    assert worst <= robust["bpda:rounding"]
    assert "zero_gradient_share" not in failed(finished, look, victim="bpda:rounding")
    audited["conditions"] = [{"attack": pgd, "eps": 0.1, "victim": "bpda:roundin"}]
    errors = runs(audited).outcome.errors().values()
    assert any("has no layer 'roundin'; did you mean 'rounding'" in error for error in errors)


def test_another_model_of_the_grid_gives_the_transfer_check(audited, runs, look):
    audited["models"].append({**audited["models"][0], "name": "other", "train": {"recipe": "standard", "epochs": 1}})
    finished = runs(audited)
    assert {r["model"] for r in look.rows(finished, metric="audit") if r["convention"].startswith("transfer ")} == {
        "plain", "other",
    }  # fmt: skip


def test_the_further_attacks_are_in_the_plan_and_shared(audited, runs):
    basic, full = plan(runs.write({**audited, "audit": "basic"})), plan(runs.write(audited))
    assert set(basic.jobs) - set(full.jobs) == {j.digest for j in basic.jobs.values() if j.kind == "audit"}
    assert full.cost()["forward"] > 4 * basic.cost()["forward"]
    audited["conditions"].append({"attack": "fgsm", "eps": 0.05})
    both = [j for j in plan(runs.write(audited)).jobs.values() if j.kind == "attack" and "fgsm" in j.label]
    assert len([j for j in both if j.recipe["eps"] == 0.05]) == 1


def test_what_is_no_attack_on_the_labels_of_the_model_keeps_the_basic_tier(audited, runs):
    audited["conditions"] = [
        {"attack": "pgd", "eps": 0.05, "victim": "detector:energy"},
        {"attack": "calibration_attack", "eps": 0.05},
    ]
    audited |= {"detectors": ["energy"]}
    attacks = [j.label for j in plan(runs.write(audited)).jobs.values() if j.kind == "attack"]
    assert len(attacks) == 2
