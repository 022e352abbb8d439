"""The dual bound of the small network: against a walk without shortcuts, by sampling, and against the paper."""

import os
from pathlib import Path

import pytest
import torch

from testbed.errors import UsageError
from testbed.models.nets.small_cnn import SmallCnn
from testbed.papers import dual_bound
from testbed.papers.needs import Needs, read_needs


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return SmallCnn((1, 28, 28), 10).requires_grad_(False)


X, Y = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 2, 3])


def test_at_radius_0_the_bound_is_the_margin(net) -> None:
    logits = net(X)
    assert torch.allclose(dual_bound.margins(net, X, Y, 0.0), logits.gather(1, Y[:, None]) - logits, atol=1e-5)


def test_the_second_layer_by_squares_is_the_walk_from_each_unit(net) -> None:
    first = dual_bound._first(net.conv1, X, 0.1)
    units = torch.eye(1568)[::13].expand(3, -1, -1)
    low, high = dual_bound._bounds([net.conv1, net.conv2], [first], X, units, 0.1)
    by_squares = dual_bound._second(net, X, first, 0.1)
    assert torch.allclose(by_squares[0].flatten(1)[:, ::13], low, atol=1e-5)
    assert torch.allclose(by_squares[1].flatten(1)[:, ::13], high, atol=1e-5)


def test_no_image_of_the_ball_goes_below_the_bound(net) -> None:
    """Corners of the ball, drawn and by gradient; a larger ball has a lower bound, and the bound is not vacuous."""
    bound = dual_bound.margins(net, X, Y, 0.02)
    draws = torch.Generator().manual_seed(2)
    worst = torch.full_like(bound, float("inf"))
    moved = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad((net(moved).gather(1, Y[:, None]).squeeze(1) - net(moved).sum(1) / 10).sum(), moved)
    corners = [-slope.sign(), *((torch.rand(X.shape, generator=draws) - 0.5).sign() for _ in range(50))]
    for corner in corners:
        z = net(X + 0.02 * corner)
        worst = torch.minimum(worst, z.gather(1, Y[:, None]) - z)
    assert (bound <= worst + 1e-6).all() and (dual_bound.margins(net, X, Y, 0.03) <= bound).all()
    wrong = torch.arange(10) != Y[:, None]
    assert (bound[wrong] > worst[wrong] - 0.2).all()


@pytest.mark.data
@pytest.mark.skipif(
    not (Path(os.environ.get("TESTBED_DATA", "")) / "weights" / "mnist_kw_small_eps0.1.safetensors").is_file(),
    reason="TESTBED_DATA names no folder with weights/mnist_kw_small_eps0.1.safetensors",
)
def test_the_published_network_is_mostly_certified() -> None:
    value, low, high, n = dual_bound.certified_error("weights/mnist_kw_small_eps0.1.safetensors", "mnist", "0.1", "100")
    assert n == 100 and low <= 0.058 <= high and value < 0.15


def test_needs_are_read_and_checked(tmp_path) -> None:
    file = tmp_path / "needs.yaml"
    assert read_needs(file) == Needs()
    file.write_text("data: [mnist/]\ncpu_minutes: 3\naccelerator: a GPU\n")
    assert read_needs(file) == Needs(data=("mnist/",), cpu_minutes=3.0, accelerator="a GPU")
    for text, says in (
        ("dta: [a]", "did you mean 'data'"),
        ("data: a", "list of names"),
        ("cpu_minutes: -1", "minutes"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=says):
            read_needs(file)
