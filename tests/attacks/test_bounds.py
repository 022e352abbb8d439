"""Bounds other than [0, 1]: the same attack on the same model in another scale gives the same images, for all attacks.

Where the scale is a power of two nothing is rounded on the way, so results are the same bit by bit on any machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks.foolbox_adapter import names as foolbox_names

import testbed
from testbed import plugins
from testbed.errors import DataError
from testbed.perturb.curve import sweep
from testbed.perturb.levels import levels

#: Attack -> what makes it short.
SHORT: dict[str, dict[str, Any]] = {
    "apgd": {"steps": 8}, "apgd_t": {"steps": 8, "targets": 2}, "autoattack": {"steps": 6, "queries": 30},
    "autoattack_fast": {"steps": 6}, "boundary": {"steps": 25}, "calibration_attack": {"steps": 6},
    "calibration_square": {"queries": 20}, "cw": {"binary_search_steps": 3, "steps": 15}, "ddn": {"steps": 15},
    "ead": {"binary_search_steps": 3, "steps": 15}, "fab": {"steps": 8}, "fmn": {"steps": 15},
    "hopskipjump": {"steps": 2, "initial_gradient_eval_steps": 10}, "one_pixel": {"population": 8, "generations": 2},
    "patch": {"steps": 4}, "pgd": {"steps": 8}, "spatial": {"rotations": 3, "translations": 2},
    "spsa": {"steps": 4, "samples": 8}, "square": {"queries": 30}, "stadv": {"steps": 4}, "universal": {"steps": 4},
    "vmifgsm": {"neighbours": 3}, "foolbox:EADAttack": {"binary_search_steps": 2, "steps": 8},
    "foolbox:L2CarliniWagnerAttack": {"binary_search_steps": 2, "steps": 8}, "foolbox:LinfPGD": {"steps": 8},
    "foolbox:DDNAttack": {"steps": 8}, "foolbox:L2FMNAttack": {"steps": 8},
}  # fmt: skip
EPS = {"linf": 0.03125, "l2": 0.25, "l1": 2.0, "l0": 6.0}
FOOLBOX = ["LinfPGD", "L2DeepFoolAttack", "DDNAttack", "EADAttack", "L2CarliniWagnerAttack", "L2FMNAttack"]


def cases() -> list[tuple[str, str | None]]:
    """Every attack in each of its norms, and some of foolbox's."""
    found = [(name, norm) for name in plugins.names("attack") if name != "foolbox"
             for norm in plugins.read("attack", name).facts["norms"] or (None,)]  # fmt: skip
    return found + [(f"foolbox:{name}", None) for name in FOOLBOX if name in foolbox_names()]


def subject() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A small smooth net, 6 images `[3 8 8]` on the grid of 8 bits, and what it says of them."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(384, 4)
    ).eval()
    model[3].weight.data *= 4
    x = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(1)) / 256
    return model, x, model(x).argmax(1)


class Scaled(torch.nn.Module):
    """The net for inputs `low + width u`."""

    def __init__(self, inner: Any, low: float, width: float) -> None:
        super().__init__()
        self.inner, self.low, self.width = inner, low, width

    def forward(self, x: torch.Tensor) -> Any:
        return self.inner((x - self.low) / self.width)


def bound(name: str, norm: str | None, width: float = 1.0, **more: Any) -> Any:
    """The attack with its budget on a scale `width` times as wide."""
    chosen: dict[str, Any] = dict(SHORT.get(name, {}))
    norms = plugins.read("attack", name).facts["norms"]
    if norms:
        norm = norm or norms[0]
        chosen |= {"norm": norm, "eps": EPS[norm] * (1 if norm == "l0" else width)}
    return testbed.attack(name, **chosen, **more)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "norm"), cases())
def test_a_scale_of_256_is_the_same_bit_by_bit(name: str, norm: str | None) -> None:
    model, x, y = subject()
    here = bound(name, norm).run(model, x, y)
    there = bound(name, norm, 256.0, bounds=(0.0, 256.0)).run(Scaled(model, 0.0, 256.0).eval(), x * 256, y)
    assert torch.equal(there.x, here.x * 256)
    for column in ("success", "first_step", "queries", "gradients", "margin", "confidence_after", "flags"):
        assert (there.ledger()[column] == here.ledger()[column]).all(), column
    # the distance is measured inside, in float64, and widened once
    np.testing.assert_allclose(there.distance, here.distance * (1 if norm == "l0" else 256), rtol=1e-6)
    assert there.audit.keys() == here.audit.keys() and not there.audit["was_in_train_mode"]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "ddn", "fmn", "square", "deepfool"])
@pytest.mark.parametrize(("low", "width"), [(0.0, 255.0), (-1.0, 2.0), (-1000.0, 3000.0)])
def test_other_scales_are_the_same_but_for_rounding(name: str, norm: str, low: float, width: float) -> None:
    if norm not in plugins.read("attack", name).facts["norms"]:
        pytest.skip("not one of its norms")
    model, x, y = subject()
    here = bound(name, norm).run(model, x, y)
    limits = (low, low + width)
    there = bound(name, norm, width, bounds=limits).run(Scaled(model, low, width).eval(), low + x * width, y)
    assert float(there.x.min()) >= low and float(there.x.max()) <= low + width
    assert (there.distance <= EPS[norm] * width * (1 + 1e-3)).all()
    assert abs(int(there.success.sum()) - int(here.success.sum())) <= 1
    assert np.median(there.distance) / width == pytest.approx(np.median(here.distance), rel=0.05)


def test_a_curve_is_the_same_in_another_scale() -> None:
    model, x, y = subject()
    wide = Scaled(model, 0.0, 256.0).eval()
    far = {"bounds": (0.0, 256.0), "norm": "l2", "steps": 8}
    near = [testbed.attack("pgd", norm="l2", eps=eps, steps=8) for eps in (0.125, 0.5)]
    here = levels(near, model, x, y)
    there = levels([testbed.attack("pgd", eps=256 * eps, **far) for eps in (0.125, 0.5)], wide, x * 256, y)
    for one, other in zip(here, there, strict=True):
        assert torch.equal(other.x, one.x * 256) and (other.success == one.success).all()
    curve = sweep(lambda eps: testbed.attack("pgd", norm="l2", eps=eps, steps=8), (0.125, 0.5), model, x, y)
    other = sweep(lambda eps: testbed.attack("pgd", eps=eps, **far), (32.0, 128.0), wide, x * 256, y)
    assert (other.fooled == curve.fooled).all() and other.distance == pytest.approx(256 * curve.distance)


def test_a_step_size_is_in_the_unit_of_eps() -> None:
    model, x, y = subject()
    here = testbed.attack("pgd", eps=1 / 32, step_size=1 / 64, steps=4).run(model, x, y)
    wide = testbed.attack("pgd", eps=8, step_size=4, steps=4, bounds=(0, 256))
    assert torch.equal(wide(Scaled(model, 0.0, 256.0).eval(), x * 256, y), here.x * 256)


def test_features_with_bounds_of_their_own_keep_a_round_ball() -> None:
    pairs = ((0.0, 4.0), (-1.0, 1.0))
    model = lambda x: torch.stack([x @ torch.tensor([1.0, 1.0]) - 1.0, torch.zeros(len(x))], dim=1)
    out = testbed.attack("fgsm", norm="l2", eps=0.5, bounds=pairs).run(model, torch.tensor([[2.0, 0.5]]), [0])
    # by hand: half a unit against (1, 1), in the data's own scale whatever the features' ranges
    assert torch.allclose(out.x, torch.tensor([[2.0 - 0.125**0.5, 0.5 - 0.125**0.5]]), atol=1e-6)
    assert out.distance[0] == pytest.approx(0.5, rel=1e-6)


def test_inputs_outside_wide_bounds_are_named_in_their_own_scale() -> None:
    model, x, y = subject()
    wide = Scaled(model, 0.0, 255.0).eval()
    attack = testbed.attack("pgd", eps=8, steps=2, bounds=(0, 255))
    with pytest.raises(DataError, match=r"outside the bounds by up to 1 "):
        attack.run(wide, torch.full_like(x, 256.0), y)
    slightly = torch.full_like(x, 255.0 + 2**-10)
    assert (attack.run(wide, slightly, y).flags & 1).all()
