"""The handle: what it refuses, what it checks, and what it says about each example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import testbed
from testbed.errors import DataError, PluginViolation, UsageError
from testbed.types import FLAG_CLIPPED, LEDGER


class Line(torch.nn.Module):
    """Logits (x, 0.5) of a single feature x: class 0 where x > 0.5."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.scale * x[:, 0], torch.full_like(x[:, 0], 0.5)], dim=1)


X, Y = torch.tensor([[0.9], [0.6], [0.4], [0.1]]), torch.tensor([0, 0, 0, 1])


def own(tmp_path: Path, body: str, arguments: str = "eps: float") -> str:
    """A user's attack in a file."""
    path = tmp_path / "mine.py"
    path.write_text(f"import torch\n\n\ndef mine(model, x, y, *, {arguments}):\n    {body}\n")
    return f"{path}:mine"


def test_hand_worked_ledger() -> None:
    out = testbed.attack("fgsm", norm="linf", eps=0.2).run(Line(), X, Y)
    assert out.success.tolist() == [False, True, True, False]
    assert out.first_step.tolist() == [-1, 2, 0, -1]
    np.testing.assert_allclose(out.x.flatten(), [0.7, 0.4, 0.4, 0.3], atol=1e-6)
    np.testing.assert_allclose(out.margin, [0.2, -0.1, -0.1, 0.2], atol=1e-6)
    np.testing.assert_allclose(out.distance, [0.2, 0.2, 0.0, 0.2], atol=1e-6)
    np.testing.assert_allclose(out.loss, np.log1p(np.exp(-out.margin)), atol=1e-6)
    np.testing.assert_allclose(out.confidence_before[0], 1 / (1 + np.exp(-0.4)), atol=1e-6)
    assert out.queries.tolist() == [2, 2, 0, 2] and out.gradients.tolist() == [1, 1, 0, 1]
    assert out.robust_accuracy == 0.5
    assert {name: str(column.dtype) for name, column in out.ledger().items()} == dict(LEDGER)


def test_eps_zero_gives_the_clean_images_without_a_query() -> None:
    out = testbed.attack("pgd", norm="linf", eps=0).run(Line(), X, Y)
    assert torch.equal(out.x, X) and out.queries.sum() == 0
    assert out.success.tolist() == [False, False, True, False]


def test_eps_beyond_the_box_reaches_every_image() -> None:
    out = testbed.attack("pgd", norm="linf", eps=5.0, steps=5).run(Line(), X, Y)
    assert out.success.all() and out.x.min() >= 0 and out.x.max() <= 1


def test_an_empty_set_is_an_empty_result() -> None:
    out = testbed.attack("pgd", norm="l2", eps=0.1).run(Line(), X[:0], Y[:0])
    assert len(out) == 0 and out.x.shape == (0, 1) and np.isnan(out.robust_accuracy)


def test_rounding_outside_the_bounds_is_clipped_and_marked() -> None:
    x = X.clone()
    x[0] = 1 + 2e-7
    out = testbed.attack("fgsm", norm="linf", eps=0.1).run(Line(), x, Y)
    assert out.flags[0] == FLAG_CLIPPED and out.flags[1] == 0 and out.audit["clipped_inputs"] == 1


@pytest.mark.parametrize(
    ("x", "y", "model", "says"),
    [
        (X * 255, Y, Line(), "outside the bounds by up to"),
        (X, Y + 5, Line(), r"label 6 but the model has 2 classes"),
        (X, Y - 1, Line(), "labels are negative"),
        (X, Y[:2], Line(), "4 inputs but 2 labels"),
        (X * float("nan"), Y, Line(), "NaN or infinity"),
        ((X * 255).byte(), Y, Line(), "uint8"),
        (X, Y * 0, lambda x: x, "one class"),
        (X, Y, lambda x: x[:, 0], "must give logits"),
        (X, Y, lambda x: torch.full((len(x), 2), float("nan")), "logits are NaN"),
    ],
)
def test_inputs_that_cannot_be_attacked(x: torch.Tensor, y: torch.Tensor, model: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        testbed.attack("fgsm", norm="linf", eps=0.1).run(model, x, y)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"ref": "pgd", "norm": "l7", "eps": 0.1}, "takes norm"),
        ({"ref": "pgd", "norm": "linf"}, "needs a budget"),
        ({"ref": "pgd", "eps": -0.1}, "eps must be a number >= 0"),
        ({"ref": "pgd", "eps": "a lot"}, "fraction"),
        ({"ref": "pgd", "eps": 0.1, "stepps": 3}, "did you mean 'steps'"),
        ({"ref": "pgd", "eps": 0.1, "steps": "many"}, "steps: Input should be a valid integer"),
        ({"ref": "pgdd", "eps": 0.1}, "did you mean 'pgd'"),
    ],
)
def test_wrong_use(how: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        testbed.attack(**how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return x + 2 * eps", "left the linf ball of 0.05 in 3 of 4 examples: largest distance 0.1"),
        ("return x * float('nan')", "returned NaN or infinity in 3 of 3"),
        ("return x + 5", "left the bounds in 3 of 3"),
        ("return x[:1]", "returned shape"),
        ("return x.double()", "float64"),
        ("return None", "returned a NoneType"),
        ("1 / 0", "raised ZeroDivisionError: division by zero"),
        ("model.module.scale.data += 1; return x", "changed the model's weights"),
    ],
)
def test_a_plugin_that_breaks_its_contract_is_named(tmp_path: Path, body: str, says: str) -> None:
    model = Line()
    with pytest.raises(PluginViolation, match=says):
        testbed.attack(own(tmp_path, body), norm="linf", eps=0.05).run(model, X, Y)
    assert model.scale.item() == 1.0


def test_a_plugin_that_writes_into_its_input_harms_nobody(tmp_path: Path) -> None:
    x = X.clone()
    testbed.attack(own(tmp_path, "return x.sub_(eps)"), norm="linf", eps=0.1).run(Line(), x, Y)
    assert torch.equal(x, X)


def test_a_users_function_with_keyed_draws_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    noise = own(
        tmp_path, "return (x + eps * torch.from_numpy(rng.uniform(x.shape[1:], -1, 1))).clamp(0, 1)", "eps: float, rng"
    )
    runs = [
        testbed.attack(noise, norm="linf", eps=0.3, batch=b)(Line(), X, Y, ids=[4, 5, 6, 7], seed=1) for b in (1, 4)
    ]
    assert torch.equal(*runs)


def test_a_torch_generator_is_seeded_by_the_slice_and_the_global_state_comes_back(tmp_path: Path) -> None:
    body = "return (x + eps * torch.rand(x.shape, generator=generator) * torch.rand(1)).clamp(0, 1)"
    noise = testbed.attack(own(tmp_path, body, "eps: float, generator"), norm="linf", eps=0.3)
    assert noise.plugin.facts["batch_coupled"]
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (noise(Line(), X, Y, seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_by_products_name_what_is_wrong_with_a_model() -> None:
    torch.manual_seed(0)
    softmaxed = testbed.attack("fgsm", eps=0.1).run(lambda x: Line()(x).softmax(1), X, Y).audit
    assert softmaxed["softmax_as_logits"] and not softmaxed["randomised_forward"]
    noisy = testbed.attack("fgsm", eps=0.1).run(lambda x: Line()(x) + torch.rand(len(x), 2) / 100, X, Y).audit
    assert noisy["randomised_forward"] > 0 and not noisy["softmax_as_logits"]
    stepped = testbed.attack("fgsm", eps=0.1).run(lambda x: Line()((x * 8).round() / 8), X, Y)
    assert stepped.audit["zero_gradient_share"] == 1.0 and (stepped.flags[[0, 1, 3]] == 8).all()
    assert testbed.attack("fgsm", eps=0.1).run(Line().train(), X, Y).audit["was_in_train_mode"]
    assert testbed.attack("fgsm", eps=0.2).run(Line(), X, Y, seed=0).audit["noise_success"] in (0.0, 1 / 3)


def test_tabular_bounds_are_per_feature() -> None:
    model = torch.nn.Linear(2, 2)
    x = torch.tensor([[5.0, 100.0], [15.0, 50.0]])
    out = testbed.attack("pgd", norm="linf", eps=20.0, steps=5, bounds=((0, 20), (0, 100))).run(
        model, x, torch.tensor([0, 1])
    )
    assert (out.x[:, 0] <= 20).all() and (out.x >= 0).all() and (out.x[:, 1] <= 100).all()
    with pytest.raises(DataError, match="one pair for each"):
        testbed.attack("pgd", eps=1.0, bounds=((0, 20), (0, 100), (0, 1))).run(model, x, torch.tensor([0, 1]))


def test_the_handle_can_be_made_without_torch() -> None:
    import subprocess
    import sys

    code = (
        "import testbed, sys; testbed.attack('pgd', eps=.1); testbed.attack('foolbox:PGD', eps=.1); "
        "assert not {'torch', 'foolbox'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
