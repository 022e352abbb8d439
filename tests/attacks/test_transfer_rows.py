"""Images for another model: examples that the attacked one gets wrong already are attacked like all others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import testbed
from testbed import plugins
from testbed.errors import UsageError
from testbed.perturb.levels import levels

#: Attack -> what makes it short. Those that minimise the distance are not here: where the model errs, theirs is 0.
SHORT: dict[str, dict[str, Any]] = {
    "apgd": {"steps": 8}, "apgd_t": {"steps": 8, "targets": 2}, "autoattack": {"steps": 6, "queries": 30},
    "autoattack_fast": {"steps": 6}, "bim": {}, "difgsm": {}, "fgsm": {}, "mifgsm": {}, "nifgsm": {},
    "one_pixel": {"population": 8, "generations": 2}, "patch": {"steps": 4}, "pgd": {"steps": 8}, "sinifgsm": {},
    "spatial": {"rotations": 3, "translations": 2}, "spsa": {"steps": 4, "samples": 8}, "square": {"queries": 30},
    "stadv": {"steps": 20}, "tifgsm": {"kernel": 5}, "universal": {"steps": 4}, "vmifgsm": {"neighbours": 3},
}  # fmt: skip
EPS = {"linf": 0.1, "l2": 0.5, "l1": 4.0, "l0": 6.0}


def subject() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A small net, 10 images `[3 8 8]` and labels of which the first five are wrong."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(384, 4)
    ).eval()
    x = torch.rand(10, 3, 8, 8)
    y = model(x).argmax(1)
    y[:5] = (y[:5] + 1) % 4
    return model, x, y


def test_every_attack_with_a_budget_is_here() -> None:
    named = {name for name in plugins.names("attack") if name != "foolbox"}
    of_labels = {name for name in named if plugins.read("attack", name).facts["objective"] == "label"}
    assert set(SHORT) == {name for name in of_labels if not plugins.read("attack", name).facts["minimal"]}


def cases() -> list[tuple[str, str | None]]:
    """Every attack above in each of its norms."""
    return [(name, norm) for name in sorted(SHORT) for norm in plugins.read("attack", name).facts["norms"] or (None,)]


@pytest.mark.parametrize(("name", "norm"), cases())
def test_all_rows_are_attacked(name: str, norm: str | None) -> None:
    model, x, y = subject()
    ball = {"norm": norm, "eps": EPS[norm]} if norm else {}
    out = testbed.attack(name, transfer=True, **ball, **SHORT[name]).run(model, x, y)
    clean = torch.nn.functional.cross_entropy(model(x), y, reduction="none").detach().numpy()
    assert (out.distance[:5] > 0).all() and out.success[:5].all() and (out.first_step[:5] == 0).all()
    assert (out.queries[:5] > 0).all()
    coupled = plugins.read("attack", name).facts["batch_coupled"]
    if norm and not coupled:  # a warp, a patch or one delta for all may find nothing worse for some in a few steps
        assert (out.loss > clean)[:5].mean() >= 0.8
    alone = testbed.attack(name, **ball, **SHORT[name]).run(model, x, y)
    assert (alone.distance[:5] == 0).all()
    if not coupled:
        assert torch.allclose(out.x[5:], alone.x[5:])  # the others are attacked as ever


def test_curves_are_not_for_another_model() -> None:
    model, x, y = subject()
    both = [testbed.attack("pgd", eps=eps, transfer=True) for eps in (0.1, 0.2)]
    with pytest.raises(UsageError, match="attack at each eps"):
        levels(both, model, x, y)


def test_a_distance_of_nought_is_what_the_closest_fooling_image_of_an_error_has() -> None:
    model, x, y = subject()
    out = testbed.attack("deepfool", transfer=True).run(model, x, y)
    assert np.array_equal(out.distance[:5], np.zeros(5))
