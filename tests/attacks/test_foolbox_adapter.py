"""Every foolbox attack runs by name, within its budget, on one example or many; its traps do not reach the user."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from testbed_attacks.foolbox_adapter import names, norms_of, parameters_of

import testbed
from testbed.errors import UsageError

SHORT = {
    "steps": 5, "repeats": 3, "directions": 5, "binary_search_steps": 2, "initial_gradient_eval_steps": 5,
    "max_gradient_eval_steps": 10, "random_steps": 3,
}  # fmt: skip
EPS = {"linf": 0.05, "l2": 0.4, "l1": 2.0, "l0": 10.0, None: None}
COMPILES = sorted(name for name in set(names().values()) if "BrendelBethge" in name)


class Net(torch.nn.Module):
    """A small net, binarising its input where asked."""

    def __init__(self, threshold: float | None = None) -> None:
        super().__init__()
        self.threshold = threshold
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x if self.threshold is None else (x >= self.threshold).float())


def setting(threshold: float | None = None) -> tuple[Net, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model, x = Net(threshold), torch.rand(6, 1, 8, 8)
    return model, x, model(x).argmax(1)


def run(name: str) -> None:
    model, x, y = setting(0.5 if name == "BinarizationRefinementAttack" else None)
    short = {key: value for key, value in SHORT.items() if key in {p.name for p in parameters_of(name)}}
    norm = (norms_of(name) or (None,))[0]
    attack = testbed.attack(f"foolbox:{name}", norm=norm, eps=EPS[norm], **short)
    x[0, 0, 0, 0] = 1 + 2e-7
    out, again = attack.run(model, x, y, seed=3), attack.run(model, x, y, seed=3)
    assert torch.equal(out.x, again.x)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert out.queries.sum() > 0 or name in UNASKED


UNASKED = {
    "L2AdditiveGaussianNoiseAttack", "L2AdditiveUniformNoiseAttack", "L2ClippingAwareAdditiveGaussianNoiseAttack",
    "L2ClippingAwareAdditiveUniformNoiseAttack", "LinfAdditiveUniformNoiseAttack", "L2ContrastReductionAttack",
    "InversionAttack",
}  # fmt: skip


@pytest.mark.verifies("foolbox", by="reference", against="the classes of foolbox 3.3.4 itself")
def test_there_are_58_classes_under_69_names() -> None:
    import foolbox

    public = {name: cls for name, cls in vars(foolbox.attacks).items() if isinstance(cls, type) and name != "Attack"}
    assert {name: cls.__name__ for name, cls in public.items()} == dict(names())
    assert (len(set(names().values())), len(names())) == (58, 69)


def test_the_parameters_read_are_the_parameters_there_are() -> None:
    import inspect

    import foolbox
    from testbed_attacks.foolbox_adapter import HIDDEN

    for name in set(names().values()):
        real = inspect.signature(getattr(foolbox.attacks, name).__init__).parameters.values()
        plain = {
            p.name: p.default for p in real if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in HIDDEN
        }
        assert {p.name: p.default for p in parameters_of(name)} == plain, name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(names().values()) - set(COMPILES)))
def test_runs_within_its_budget_and_repeats(name: str) -> None:
    run(name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", COMPILES)
def test_brendel_bethge_runs_with_numba(name: str) -> None:
    run(name)


def test_global_generators_are_put_back() -> None:
    model, x, y = setting()
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    testbed.attack("foolbox:LinfRepeatedAdditiveUniformNoiseAttack", eps=0.1)(model, x, y)
    assert torch.equal(torch.get_rng_state(), before[0]) and np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]


@pytest.mark.filterwarnings("ignore")
def test_one_example_without_a_start_does_not_spoil_the_batch() -> None:
    class Stubborn(torch.nn.Module):
        """Class 1 where the mean is low; the first row of any batch of two or more is class 1 whatever it is."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            fixed = torch.zeros(len(x))
            fixed[:1] = 100.0 if len(x) > 1 else 0.0
            return torch.stack([x.flatten(1).mean(1), 0.5 + fixed], dim=1)

    x = torch.rand(4, 1, 4, 4) * 0.2 + 0.7
    y = torch.tensor([1, 0, 0, 0])
    out = testbed.attack("foolbox:BoundaryAttack", eps=3.0, steps=20).run(Stubborn(), x, y)
    assert out.success[1:].all()


def test_exact_runs_examples_alone() -> None:
    model, x, y = setting()
    attack = testbed.attack("foolbox:L2CarliniWagnerAttack", eps=2.0, steps=20, binary_search_steps=2, exact=True)
    whole = attack.run(model, x, y)
    alone = attack.run(model, x[2:3], y[2:3])
    torch.testing.assert_close(alone.x, whole.x[2:3])


def test_unknown_names_and_parameters() -> None:
    with pytest.raises(UsageError, match="did you mean 'LinfDeepFoolAttack'"):
        testbed.attack("foolbox:LinfDeepFool", eps=0.1)
    with pytest.raises(UsageError, match="did you mean 'steps'"):
        testbed.attack("foolbox:PGD", eps=0.1, step=3)
    with pytest.raises(UsageError, match="takes norm 'linf', got 'l2'"):
        testbed.attack("foolbox:PGD", eps=0.1, norm="l2")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("foolbox:HopSkipJumpAttack", {"steps": 2, "initial_gradient_eval_steps": 5, "max_gradient_eval_steps": 10}),
        ("foolbox:BoundaryAttack", {"steps": 10}),
        ("foolbox:DDNAttack", {"steps": 10}),
        ("foolbox:L2AdditiveGaussianNoiseAttack", {}),
    ],
)
def test_exact_runs_do_not_depend_on_the_slice(name: str, params: dict[str, int]) -> None:
    model, x, y = setting()
    attack = testbed.attack(name, norm="l2", eps=1.0, exact=True, **params)
    whole = attack.run(model, x, y)
    for rows in ([3, 4, 5], [5, 0]):
        part = attack.run(model, x[rows], y[rows], ids=np.array(rows))
        torch.testing.assert_close(part.x, whole.x[rows], atol=1e-6, rtol=0)
