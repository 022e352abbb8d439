"""One contract every attack goes through: budget, repeatability, untouched inputs and weights, batches, success."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import testbed
from testbed import plugins


@dataclass(frozen=True)
class Case:
    """One attack in one norm, cheap enough to run on twelve small images."""

    name: str
    norm: str | None
    eps: float | None
    params: dict[str, Any] = field(default_factory=dict)
    fools: float = 0.5  # least share of the examples it must fool

    def __str__(self) -> str:
        return f"{self.name}-{self.norm}"


EPS = {"linf": 0.1, "l2": 0.8, "l1": 10.0, "l0": 24.0}
CASES = [
    *[Case("fgsm", norm, EPS[norm]) for norm in ("linf", "l2", "l1")],
    *[Case("bim", norm, EPS[norm]) for norm in ("linf", "l2", "l1")],
    *[Case("pgd", norm, EPS[norm], {"steps": 10}) for norm in ("linf", "l2", "l1")],
    *[Case("apgd", norm, EPS[norm], {"steps": 20}) for norm in ("linf", "l2", "l1")],
    *[Case("apgd_t", norm, EPS[norm], {"steps": 20}) for norm in ("linf", "l2", "l1")],
    *[Case("fab", norm, EPS[norm], {"steps": 20}) for norm in ("linf", "l2", "l1")],
    Case("square", "linf", EPS["linf"], {"queries": 200}, 0.2),
    Case("square", "l2", 2.5, {"queries": 100}, 0.2),
    Case("square", "l1", 25.0, {"queries": 100}, 0.2),
    Case("fab", "l2", EPS["l2"], {"steps": 10, "targeted": False, "restarts": 2}),
    *[Case("autoattack", norm, EPS[norm], {"steps": 10, "queries": 50}) for norm in ("linf", "l2", "l1")],
    Case("autoattack", "linf", EPS["linf"], {"steps": 10, "queries": 50, "cascade": "plus"}),
    Case("autoattack", "linf", EPS["linf"], {"steps": 10, "cascade": "rand", "eot": 2, "judge": 2}),
    *[Case(name, "linf", EPS["linf"]) for name in ("mifgsm", "nifgsm", "sinifgsm", "difgsm")],
    Case("tifgsm", "linf", EPS["linf"], {"kernel": 3, "sigma": 1.0}),
    Case("vmifgsm", "linf", EPS["linf"], {"neighbours": 5}),
    *[
        Case(name, "linf", EPS["linf"], {"target": "random"}, 0.3)
        for name in ("mifgsm", "nifgsm", "sinifgsm", "difgsm")
    ],
    Case("tifgsm", "linf", EPS["linf"], {"kernel": 3, "sigma": 1.0, "target": "random"}, 0.3),
    Case("vmifgsm", "linf", EPS["linf"], {"neighbours": 5, "target": "random"}, 0.3),
    Case("cw", "l2", EPS["l2"], {"steps": 40, "binary_search_steps": 3, "initial_const": 1.0}),
    Case("ead", "l1", EPS["l1"], {"steps": 40, "binary_search_steps": 4, "initial_const": 1.0}, 0.2),
    Case("ddn", "l2", EPS["l2"], {"steps": 30}),
    *[Case("fmn", norm, EPS[norm], {"steps": 30}, 0.3) for norm in ("linf", "l2", "l1", "l0")],
    *[Case("deepfool", norm, EPS[norm]) for norm in ("linf", "l2")],
    Case("hopskipjump", "linf", 0.3, {"steps": 3, "max_gradient_eval_steps": 50}),
    Case("hopskipjump", "l2", 2.5, {"steps": 3, "max_gradient_eval_steps": 50}),
    *[Case("calibration_attack", norm, EPS[norm], {"steps": 10}, 0.0) for norm in ("linf", "l2", "l1")],
    Case("calibration_square", "linf", EPS["linf"], {"queries": 60}, 0.0),
    Case("autoattack_fast", "linf", EPS["linf"], {"steps": 20}),
    Case("spsa", "linf", EPS["linf"], {"steps": 10, "samples": 32, "learning_rate": 0.03}),
    Case("one_pixel", "l0", 24, {"population": 30, "generations": 10}, 0.1),
    Case("spatial", None, None, {"rotations": 5, "translations": 3}, 0.3),
    Case("stadv", None, None, {"steps": 10, "learning_rate": 0.2}, 0.1),
    Case("patch", None, None, {"area": 0.2, "steps": 30}, 0.3),
    Case("universal", "linf", 0.25, {"steps": 20}, 0.2),
    Case("boundary", "l2", EPS["l2"], {"steps": 30}, 0.0),
]


class Net(torch.nn.Module):
    """A small smooth net whose input dimension is free."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.head = torch.nn.Linear(6 * 25, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4 * self.head(torch.tanh(self.conv(x)).flatten(1))


@pytest.fixture(scope="module")
def setting() -> tuple[Net, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model, x = Net(), torch.rand(12, 2, 9, 10)
    return model, x, model(x).argmax(1)


def bound(case: Case, **more: Any) -> Any:
    return testbed.attack(case.name, norm=case.norm, eps=case.eps, **case.params, **more)


def test_every_attack_has_a_case() -> None:
    assert set(plugins.names("attack")) - {case.name for case in CASES} == {"foolbox"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_contract(case: Case, setting: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, y = setting
    ids = torch.arange(100, 112).numpy()
    attack = bound(case)
    before = x.clone()
    out, again = attack.run(model, x, y, ids=ids, seed=3), attack.run(model, x, y, ids=ids, seed=3)
    assert torch.equal(x, before)
    assert torch.equal(out.x, again.x), "the same seed gave another result"
    assert (out.queries == again.queries).all() and out.queries.sum() > 0
    assert (out.gradients.sum() > 0) == attack.plugin.facts["white_box"]
    assert out.success.mean() >= case.fools
    assert ((out.first_step > 0) == out.success).all()
    assert attack.plugin.facts["reference"] is not None


@pytest.mark.parametrize(
    "case", [c for c in CASES if not plugins.read("attack", c.name).facts["batch_coupled"]], ids=str
)
def test_no_example_depends_on_its_batch(case: Case, setting: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, y = setting
    ids = torch.arange(100, 112).numpy()
    whole = bound(case).run(model, x, y, ids=ids, seed=3)
    some = [1, 4, 9]
    part = bound(case, batch=2).run(model, x[some], y[some], ids=ids[some], seed=3)
    torch.testing.assert_close(part.x, whole.x[some], atol=2e-4, rtol=0)
    assert (part.success == whole.success[some]).all()


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["apgd", "apgd_t", "fab", "square", "autoattack"])
def test_few_classes(name: str, classes: int, setting: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, _ = setting
    few = lambda images: model(images)[:, :classes]
    short = {"apgd": {"steps": 10}, "apgd_t": {"steps": 10}, "fab": {"steps": 10}, "square": {"queries": 30}}
    more = short.get(name, {"steps": 10, "queries": 30})
    out = testbed.attack(name, eps=0.15, **more).run(few, x, few(x).argmax(1))
    assert out.success.any()
