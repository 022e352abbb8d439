"""Bad input, item by item, for every built-in attack: a clear error, or the obvious result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import testbed
from testbed import plugins
from testbed.errors import DataError
from testbed.types import FLAG_CLIPPED, FLAG_NO_ANSWER

#: Parameters that make an attack cheap; norm and a usual budget.
CHEAP: dict[str, dict[str, Any]] = {
    "apgd": {"steps": 4}, "apgd_t": {"steps": 4}, "autoattack": {"steps": 4, "queries": 4},
    "autoattack_fast": {"steps": 4},
    "bim": {"steps": 2}, "boundary": {"steps": 3}, "calibration_attack": {"steps": 2},
    "calibration_square": {"queries": 3},
    "cw": {"steps": 3, "binary_search_steps": 2}, "ddn": {"steps": 4}, "deepfool": {"steps": 4}, "difgsm": {"steps": 2},
    "ead": {"steps": 3, "binary_search_steps": 2}, "fab": {"steps": 3}, "fgsm": {}, "fmn": {"steps": 4},
    "hopskipjump": {"steps": 1, "initial_gradient_eval_steps": 5, "max_gradient_eval_steps": 5}, "mifgsm": {"steps": 2},
    "nifgsm": {"steps": 2}, "one_pixel": {"population": 6, "generations": 2}, "patch": {"steps": 2, "area": 0.2},
    "pgd": {"steps": 2}, "sinifgsm": {"steps": 2, "copies": 2}, "spatial": {"rotations": 2, "translations": 2},
    "spsa": {"steps": 2, "samples": 4}, "square": {"queries": 4}, "stadv": {"steps": 2},
    "tifgsm": {"steps": 2, "kernel": 3}, "universal": {"steps": 2}, "vmifgsm": {"steps": 2, "neighbours": 2},
}  # fmt: skip
FOOLBOX = "foolbox:LinfPGD"
CHEAP[FOOLBOX] = {"steps": 2}
EPS = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 4.0}
NAMES = sorted(CHEAP)
BUDGETED = [name for name in NAMES if plugins.read("attack", name).facts["norms"]]
WRONG: dict[str, Any] = {
    "a tuple": (0,),
    "a dict": 1,
    "a vector": 2,
    "one class": 3,
    "another number of rows": 4,
    "NaN": 5,
}


class Net(torch.nn.Module):
    """A small net of three classes; `bad` is one of the ways in which a model can give something else than logits."""

    def __init__(self, bad: str | None = None) -> None:
        super().__init__()
        self.bad = bad
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
        )

    def forward(self, x: torch.Tensor) -> Any:
        z = 4 * self.layers(x)
        return {
            None: z, "a tuple": (z, x), "a dict": {"logits": z}, "a vector": z[:, 0], "one class": z[:, :1],
            "another number of rows": z[1:], "NaN": z * float("nan"),
        }[self.bad]  # fmt: skip


def bound(name: str, eps: Any = "usual") -> Any:
    """The attack, cheap, with the budget `eps` in its first norm."""
    norms = plugins.read("attack", name).facts["norms"]
    if not norms:
        return testbed.attack(name, **CHEAP[name])
    return testbed.attack(name, norm=norms[0], eps=EPS[norms[0]] if eps == "usual" else eps, **CHEAP[name])


@pytest.fixture(scope="module")
def good() -> tuple[Net, torch.Tensor, torch.Tensor]:
    """A net, four images and the labels it gives three of them; the last is wrong beforehand."""
    model = Net().eval()
    torch.manual_seed(1)
    x = torch.rand(4, 1, 8, 8)
    y = model(x).argmax(1)
    y[3] = (y[3] + 1) % 3
    return model, x, y


def test_every_attack_is_walked() -> None:
    assert set(plugins.names("attack")) - {"foolbox"} == set(NAMES) - {FOOLBOX}


@pytest.mark.parametrize("bad", WRONG)
@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_does_not_give_logits(name: str, bad: str, good: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    _, x, y = good
    said = {
        "a tuple": r"must give logits \[4, classes\], got a tuple; .*model\(x\)\[0\]",
        "a dict": r"must give logits \[4, classes\], got a dict with keys 'logits'; .*model\(x\)\[KEY\]",
        "a vector": r"must give logits \[4, classes\], got \(4,\)",
        "one class": r"one class.*two logits \(z, 0\)",
        "another number of rows": r"got \(3, 3\)",
        "NaN": r"NaN or infinite on 4 of 4 clean inputs",
    }
    with pytest.raises(DataError, match=said[bad]):
        bound(name).run(Net(bad), x, y)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_images_a_rounding_error_outside_are_clipped_with_a_mark(
    name: str, good: tuple[Net, torch.Tensor, torch.Tensor]
) -> None:
    model, x, y = good
    x = x.clone()
    x[0, 0, 0, 0], x[1, 0, 3, 3] = 1 + 2e-7, -2e-7
    out = bound(name).run(model, x, y)
    assert (out.flags & FLAG_CLIPPED > 0).tolist() == [True, True, False, False]
    assert out.audit["clipped_inputs"] == 2 and out.x.min() >= 0 and out.x.max() <= 1


@pytest.mark.parametrize("name", NAMES)
def test_input_that_cannot_be_attacked(name: str, good: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, y = good
    attack, hole = bound(name), x.clone()
    hole[2, 0, 1, 1] = float("nan")
    for given, labels, said in (
        (255 * x, y, r"outside the bounds by up to 2\d\d.*scale the inputs or give bounds="),
        ((255 * x).to(torch.uint8), y, r"got torch\.uint8; for uint8 images use x\.float\(\) / 255"),
        (hole, y, r"1 of 4 inputs hold NaN or infinity"),
        (x, y[:3], r"4 inputs but 3 labels"),
        (x, torch.tensor([0, 1, 2, 3]), r"label 3 but the model has 3 classes \(0 to 2\)"),
        (x, torch.tensor([0, 1, 2, -1]), r"1 of 4 labels are negative"),
        (x, torch.tensor([0.5, 1.0, 2.0, 0.0]), r"labels must be whole numbers"),
        (x, torch.nn.functional.one_hot(y, 3), r"4 inputs but labels of shape \(4, 3\)"),
    ):
        with pytest.raises(DataError, match=said):
            attack.run(model, given, labels)
    with pytest.raises(DataError, match="4 inputs but 2 ids"):
        attack.run(model, x, y, ids=np.arange(2))


@pytest.mark.parametrize("name", BUDGETED)
def test_a_budget_of_nothing_moves_nothing(name: str, good: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, y = good
    out = bound(name, 0).run(model, x, y)
    assert torch.equal(out.x, x) and out.success.tolist() == [False, False, False, True]
    assert out.distance.tolist() == [0] * 4 and out.first_step.tolist() == [-1, -1, -1, 0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BUDGETED)
def test_a_budget_larger_than_the_box(name: str, good: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, y = good
    out = bound(name, 1000.0).run(model, x, y)
    assert out.x.min() >= 0 and out.x.max() <= 1
    assert torch.equal(out.x[3], x[3]) or plugins.read("attack", name).facts["objective"] == "confidence"
    assert (out.success == (model(out.x).argmax(1) != y).numpy()).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_set_gives_an_empty_result(name: str, good: tuple[Net, torch.Tensor, torch.Tensor]) -> None:
    model, x, y = good
    out = bound(name).run(model, x[:0], y[:0])
    assert len(out) == 0 and out.x.shape == (0, 1, 8, 8) and np.isnan(out.robust_accuracy)


@pytest.mark.parametrize("name", BUDGETED)
@pytest.mark.parametrize("eps", [-0.1, float("nan"), float("inf"), "much"])
def test_a_budget_that_is_none(name: str, eps: Any) -> None:
    with pytest.raises(testbed.errors.UsageError, match=r"eps must be a number"):
        bound(name, eps)


class Conv(torch.nn.Module):
    """A convolution, whose kernels are chosen by the layout of what it is given, and five classes.

    after  what is done to the logits. Its state dict has an entry that is no tensor.
    """

    def __init__(self, after: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Linear(4 * 64, 5)
        self.after = after

    def forward(self, x: torch.Tensor) -> Any:
        z = 6 * self.head(torch.tanh(self.conv(x)).flatten(1))
        return z if self.after is None else self.after(z, x)

    def get_extra_state(self) -> Any:
        return {"classes": ["a", "b"]}

    def set_extra_state(self, state: Any) -> None:
        assert state == {"classes": ["a", "b"]}


@pytest.fixture(scope="module")
def coloured() -> tuple[torch.Tensor, torch.Tensor]:
    """Four images on the grid of 8 bits, `[4 3 8 8]`, and the labels that the net gives them."""
    torch.manual_seed(1)
    x = (torch.rand(4, 3, 8, 8) * 255).round() / 255
    return x, Conv().eval()(x).argmax(1)


def ledger_of(out: Any) -> list[Any]:
    return [out.x.numpy(), *out.ledger().values()]


LAYOUTS: dict[str, Any] = {
    "NHWC, permuted": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "a float64 BGR array, backwards": lambda x: np.ascontiguousarray(x.double().numpy()[:, ::-1])[:, ::-1],
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_the_layout_of_the_images_decides_no_bit(name: str, coloured: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = coloured
    attack, model = bound(name), Conv().eval()
    want = ledger_of(attack.run(model, x, y))
    for what, laid in LAYOUTS.items():
        got = ledger_of(attack.run(model, laid(x), y))
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(want, got, strict=True)), what


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_logits_and_parameters_of_any_float_dtype(name: str, coloured: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = coloured
    attack = bound(name)
    want = ledger_of(attack.run(Conv().eval(), x, y))
    wide = ledger_of(attack.run(Conv(lambda z, _: z.double()).eval(), x, y))
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(want, wide, strict=True))
    for model in (Conv(lambda z, _: z.bfloat16()).eval(), Conv().eval().double(), Conv().eval().bfloat16()):
        out = attack.run(model, x, y)
        given = out.x.to(model.head.weight.dtype)
        assert out.x.dtype == torch.float32
        assert (out.success == (model(given).float().argmax(1) != y).numpy()).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_no_answer_is_never_robust_whatever_the_label(name: str, coloured: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = coloured

    def off_grid(x: torch.Tensor) -> torch.Tensor:
        return ((x * 255) - (x * 255).round()).abs().amax((1, 2, 3)) > 1e-3

    model = Conv(lambda z, x: z.masked_fill(off_grid(x)[:, None], float("nan"))).eval()
    y = model(x).argmax(1)
    out = bound(name).run(model, x, y)
    bad = off_grid(out.x).numpy()
    assert out.success[bad].all() and ((out.flags & FLAG_NO_ANSWER > 0) == bad).all()
    assert ("no_answer_share" in out.audit) == bad.any()
    assert out.audit["randomised_forward"] == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_masked_classes_are_classes_that_nothing_is_taken_for(
    name: str, coloured: tuple[torch.Tensor, torch.Tensor]
) -> None:
    x, _ = coloured
    mask = torch.tensor([False, False, False, True, True])
    model = Conv(lambda z, _: z.masked_fill(mask, float("-inf"))).eval()
    y = model(x).argmax(1)
    out = bound(name).run(model, x, y)
    with torch.no_grad():
        z = model(out.x)
    assert (out.success == (z.argmax(1) != y).numpy()).all() and not (out.flags & FLAG_NO_ANSWER).any()
    assert np.isfinite(out.margin).all() and np.isfinite(out.loss).all()
    np.testing.assert_allclose(out.confidence_after, z.softmax(1).amax(1).numpy(), rtol=1e-5)
