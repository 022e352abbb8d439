"""A detector's score as a victim: pushed as far as the budget allows, in both directions, by any attack on labels."""

import numpy as np
import pytest
import torch

import testbed
from testbed.perturb.pushed import Pushed

WEIGHT = torch.tensor([[3.0, 0.0], [0.0, 1.0]])


def victim(side, usual=(-3.0, -2.0, -1.0), scale=1.0):
    """Score -(3 x0 + x1) * scale: the furthest point of a linf ball is a corner, known by hand."""
    return Pushed(
        torch.nn.Identity(),
        lambda x: (x @ WEIGHT.T, None),
        lambda z, f: -scale * z.sum(1),
        scale * np.array(usual),
        side,
    ).eval()


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
@pytest.mark.parametrize("loss", ["margin", "ce"])
@pytest.mark.parametrize(("side", "sign"), [("id", -1), ("ood", 1)])
def test_the_corner_of_the_ball_is_reached_whatever_the_scale_and_the_loss(side, sign, loss, scale):
    model, x = victim(side, scale=scale), torch.tensor([[0.5, 0.5], [0.9, 0.2]])
    out = testbed.attack("pgd", eps=0.05, steps=20, loss=loss).run(model, x, torch.full((2,), model.label))
    torch.testing.assert_close(out.x, x + sign * 0.05)
    assert not out.success.any()


def test_any_score_keeps_its_class_and_its_order():
    model = victim("id")
    x = torch.linspace(-50, 50, 201)[:, None].repeat(1, 2)
    logits = model(x)
    assert (logits.argmax(1) == 0).all()
    order = model.scores(x).argsort()
    assert (logits[order, 1].diff() >= 0).all() and logits[order, 1].unique().numel() > 150


def test_crossing_is_judged_at_the_95_percent_quantile_of_the_usual_scores():
    usual = np.linspace(0, 1, 101)
    for side, expected in (("id", [False, True]), ("ood", [True, False])):
        model = Pushed(torch.nn.Identity(), lambda x: (x, None), lambda z, f: z[:, 0], usual, side)
        assert model.crossed(torch.tensor([[0.94], [0.96]])).tolist() == expected


def test_scores_that_are_all_alike_or_not_finite_do_not_divide_by_zero():
    for usual in ([2.0, 2.0, 2.0], [np.nan, np.inf]):
        model = Pushed(torch.nn.Identity(), lambda x: (x, None), lambda z, f: z[:, 0], np.array(usual), "id")
        assert model(torch.rand(3, 1)).isfinite().all()
