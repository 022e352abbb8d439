"""HopSkipJump and the boundary attack: steps by hand, foolbox's distances on real nets, and examples on their own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from testbed_attacks.boundary import Answers, Boundary, proposals
from testbed_attacks.decisions import TRIES, Decisions
from testbed_attacks.hopskipjump import HopSkipJump

import testbed
from testbed import seeding
from testbed.perturb.victim import Victim
from testbed.types import FLAG_FAILED

CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("hopskipjump", "l2", {"steps": 6, "initial_gradient_eval_steps": 60}),
    ("hopskipjump", "linf", {"steps": 6, "initial_gradient_eval_steps": 60}),
    ("boundary", "l2", {"steps": 300}),
]
EACH = pytest.mark.parametrize(("name", "norm", "params"), CASES, ids=lambda v: v if isinstance(v, str) else "")

Model = Callable[[torch.Tensor], torch.Tensor]


def planes(weight: torch.Tensor, bias: float) -> Model:
    """Class 0 where w . x + b > 0."""
    return lambda x: torch.stack([x.flatten(1) @ weight + bias, torch.zeros(len(x))], dim=1)


def asking(attack: Any, model: Model, x: torch.Tensor) -> Decisions:
    """What an attack on x, of label 0, asks through."""
    return Decisions(attack, Victim(model, ids=range(len(x))), x, torch.zeros(len(x), dtype=torch.long))


def smooth() -> tuple[Any, torch.Tensor, torch.Tensor]:
    """A small smooth net, 24 inputs of it and what it says of them."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Tanh(), torch.nn.Linear(20, 4)).eval()
    x = torch.rand(24, 30)
    return model, x, model(x).argmax(1)


@pytest.mark.verifies("hopskipjump", "boundary", by="hand", against="bisections of known lines, in l2 and linf")
def test_the_way_back_by_hand() -> None:
    # along the first value the boundary is at 0.7, that is at a = 0.5 of the way from 0.5 to 0.9
    model, x = planes(torch.tensor([-1.0, 0.0]), 0.701), torch.tensor([[0.5, 0.5]])
    asked, rows = asking(Boundary(), model, x), torch.tensor([0])
    near = asked.back(rows, torch.tensor([[0.9, 0.7]]), 3)  # asks at 1/2: no, 3/4: yes, 5/8: yes
    torch.testing.assert_close(near, torch.tensor([[0.75, 0.625]]))
    assert asked.asked.tolist() == [3] and asked.closest.first.tolist() == [3]
    box = asking(HopSkipJump(norm="linf"), model, x)
    near = box.back(rows, torch.tensor([[0.9, 0.55]]), 3)  # within 1/2, 3/4, 5/8 of 0.4
    torch.testing.assert_close(near, torch.tensor([[0.75, 0.55]]))
    fine = asked.back(rows, torch.tensor([[0.9, 0.5]]), 12)
    assert 0.701 <= fine[0, 0] <= 0.701 + 0.4 / 2**12 + 1e-6


@pytest.mark.verifies("hopskipjump", by="hand", against="the normal w / |w| of affine models, and its signs in linf")
@pytest.mark.parametrize("offset", [0.0, 0.01])
def test_the_estimate_tends_to_the_normal(offset: float) -> None:
    torch.manual_seed(1)
    w = torch.randn(12)
    w = w.sign() * (0.5 + w.abs())
    x, attack = torch.full((2, 12), 0.5), HopSkipJump(initial_gradient_eval_steps=6000)
    here = x - offset * w / w.norm()
    model = planes(w, -0.5 * float(w.sum()))
    delta, rows, rng = torch.full((2,), 0.05), torch.arange(2), seeding.Rng("normal", 1, 0, [3, 4])
    along = attack.normal(asking(attack, model, x), rows, here, delta, rng, 0)
    torch.testing.assert_close(along.norm(dim=1), torch.ones(2))
    assert ((along @ -w / w.norm()) > 0.99).all() and not torch.equal(along[0], along[1])
    box = HopSkipJump(norm="linf", initial_gradient_eval_steps=6000)
    assert torch.equal(box.normal(asking(box, model, x), rows, here, delta, rng, 0), -w.sign().expand(2, 12))


@pytest.mark.verifies("hopskipjump", by="hand", against="the halved step sizes of a slab, theta and delta of the paper")
def test_a_step_of_hopskipjump_by_hand() -> None:
    # fooled for 0.2 < x < 0.4 only; from 0.25, 0.25 away, to 0.5: no, 0.375: yes
    slab = lambda x: torch.stack([(x[:, 0] - 0.3).abs() - 0.1, torch.zeros(len(x))], dim=1)
    asked = asking(HopSkipJump(), slab, torch.zeros(1, 2))
    far, moved = HopSkipJump().step(asked, torch.tensor([0]), torch.tensor([[0.25, 0.0]]), torch.eye(2)[:1], 0)
    torch.testing.assert_close(far, torch.tensor([[0.375, 0.0]]))
    assert moved.tolist() == [True] and asked.asked.tolist() == [2]
    back, moved = HopSkipJump().step(asked, torch.tensor([0]), torch.tensor([[0.5, 0.0]]), torch.eye(2)[:1], 0)
    assert moved.tolist() == [False] and back.tolist() == [[0.5, 0.0]], "nothing fools there: it stays"
    assert HopSkipJump().theta(100) == pytest.approx(1e-3) and HopSkipJump(norm="linf").theta(100) == pytest.approx(
        1e-4
    )
    assert HopSkipJump(gamma=3.0).theta(100) == pytest.approx(3e-3) and HopSkipJump().theta(10**6) == 2.0**-20


@pytest.mark.verifies("boundary", by="hand", against="both steps of a proposal on a circle, worked out by hand")
def test_a_step_of_the_boundary_attack_by_hand() -> None:
    # r = 0.4; across by 0.75 r = 0.3, back onto the circle by 1 / 1.25; then a quarter nearer
    clean, now = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.9, 0.5]])
    noise, sizes = torch.tensor([[5.0, 0.2]]), torch.tensor([[0.75, 0.25]])
    turned, nearer = proposals(clean, now, noise, sizes, 0.0, 1.0)
    torch.testing.assert_close(turned, torch.tensor([[0.82, 0.74]]))
    torch.testing.assert_close(nearer, torch.tensor([[0.74, 0.68]]))
    turned, nearer = proposals(clean, now, noise, sizes, 0.0, 0.7)  # the box cuts the first step short: 0.2, 0.2
    torch.testing.assert_close(turned, torch.tensor([[0.7, 0.7]]))
    torch.testing.assert_close(nearer, turned)


def test_answers_set_the_sizes_and_are_forgotten() -> None:
    answers = Answers(3, 10, 0.2, 0.5, "cpu")
    for number in range(10):
        assert answers.verdict().tolist() == [0, 0, 0], "too few answers"
        answers.add(torch.tensor([number < 6, number < 5, number < 1]))
    assert answers.verdict().tolist() == [1, 0, -1]
    answers.add(torch.tensor([True, True, True]))
    assert answers.verdict().tolist() == [0, 0, 0]
    answers.add(torch.tensor([True, True, True]))
    answers.keep(torch.tensor([False, True, True]))
    assert answers.verdict().tolist() == [0, 0], "the oldest two of five have gone, two new ones have come"


def test_more_steps_never_lead_further_away() -> None:
    model, x, y = smooth()
    runs = [testbed.attack("boundary", steps=steps).run(model, x, y) for steps in (1, 50, 100, 200, 400)]
    assert all(run.success.all() for run in runs)
    far = np.stack([run.distance for run in runs])
    assert (np.diff(far, axis=0) <= 0).all() and np.median(far[-1]) < 0.7 * np.median(far[0])


@EACH
def test_cut_into_batches(name: str, norm: str, params: dict[str, Any]) -> None:
    model, x, y = smooth()
    ids = np.arange(24) + 7
    whole = testbed.attack(name, norm=norm, **params).run(model, x, y, ids=ids)
    part = testbed.attack(name, norm=norm, batch=5, **params).run(model, x[9:17], y[9:17], ids=ids[9:17])
    torch.testing.assert_close(part.x, whole.x[9:17], atol=1e-4, rtol=0)
    assert (part.queries == whole.queries[9:17]).all() and whole.success.all()


class Grey(torch.nn.Module):
    """Class 0 where the mean is within 0.15 of 0.5, as that of 300 values of noise always is; else 1 (light), 2."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        off = x.mean(1) - 0.5
        return torch.stack([0.3 - off.abs(), off, -off], dim=1)


@EACH
def test_an_example_without_a_start_has_failed_and_the_others_have_not(
    name: str, norm: str, params: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    y = torch.tensor([1, 0, 2, 1, 0, 2])
    x = 0.1 * torch.rand(6, 300) + torch.tensor([0.45, 0.8, 0.1])[y][:, None]
    attack = testbed.attack(name, norm=norm, **params)
    out, rest = attack.run(Grey(), x, y), np.flatnonzero(y != 0)
    alone = attack.run(Grey(), x[rest], y[rest], ids=rest)
    assert (out.flags & FLAG_FAILED > 0).tolist() == (y == 0).tolist() == (~torch.from_numpy(out.success)).tolist()
    assert torch.equal(out.x[y == 0], x[y == 0]) and (out.queries[y.numpy() == 0] == TRIES).all()
    torch.testing.assert_close(alone.x, out.x[rest], atol=1e-5, rtol=0)
    assert (alone.queries == out.queries[rest]).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_what_it_returns_is_clear_of_the_boundary(norm: str) -> None:
    # bisected as finely as float32 allows; half of what it is then moved out by is still over the boundary
    model, x, y = smooth()
    out = testbed.attack("hopskipjump", norm=norm, steps=2, gamma=1e-9).run(model, x, y)
    nearer = x.double() + (1 - 2.0**-17) * (out.x - x).double()
    exact = copy.deepcopy(model).double()(nearer).argmax(1) != y
    assert out.success.any() and exact[torch.from_numpy(out.success)].double().mean() > 0.9


@EACH
def test_within_a_budget_it_stops_at_the_first_image_inside(name: str, norm: str, params: dict[str, Any]) -> None:
    model, x, y = smooth()
    free = testbed.attack(name, norm=norm, **params).run(model, x, y)
    eps = float(np.median(free.distance))
    held = testbed.attack(name, norm=norm, eps=eps, **params).run(model, x, y)
    near = free.distance <= eps
    assert held.success[near].all() and (held.distance <= eps * (1 + 1e-5)).all()
    assert held.queries[near].mean() < 0.8 * free.queries[near].mean()
    assert (held.first_step[near] == held.queries[near]).all(), "the query that found it was the last"


@EACH
def test_bounds_and_queries(name: str, norm: str, params: dict[str, Any]) -> None:
    model, x, _ = smooth()
    bounds = [(0.5, 0.5), (-2.0, 3.0), *[(0.0, 1.0)] * 28]  # the first feature has no room
    x = x.clone()
    x[:, 0] = 0.5
    y, sent = model(x).argmax(1), 0

    def counting(images: torch.Tensor) -> torch.Tensor:
        nonlocal sent
        sent += len(images)
        low, high = images.amin(0), images.amax(0)
        assert low[0] == high[0] == 0.5 and low[1] >= -2 and high[1] <= 3 and low[2:].min() >= 0 and high[2:].max() <= 1
        logits: torch.Tensor = model(images)
        return logits

    kind = {"hopskipjump": HopSkipJump, "boundary": Boundary}[name]
    attack = kind(norm=norm, bounds=bounds, **params)
    victim = Victim(counting, ids=range(24))
    with torch.no_grad():
        found = attack(victim, x, y, rng=seeding.Rng(name, 2, 0, range(24)))
        assert (model(found.x).argmax(1) != y).all()
    assert sent == victim.counts.queries.sum() and (found.first_step <= victim.counts.queries).all()
    assert victim.counts.queries.mean() == pytest.approx(attack.budget[0], rel=0.15)


def test_bad_settings_are_refused() -> None:
    for kind, bad in (
        (HopSkipJump, {"steps": 0}), (HopSkipJump, {"gamma": 0.0}), (HopSkipJump, {"max_gradient_eval_steps": 0}),
        (Boundary, {"steps": 0}), (Boundary, {"source_step": 0.0}), (Boundary, {"step_adaptation": 1.0}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="got"):
            kind(**bad)


#: With images and the margin. Ratios of medians over seeds 0 to 3 on both nets, on CPUs with AVX-512 and without any
#: vectors: .50 to .69, .96 to 1.02, .97 to 1.05; the margin is the largest and four deviations over seeds.
FOOLBOX = [
    ("hopskipjump", "l2", "HopSkipJumpAttack", {"steps": 8}, 16, 0.9),
    ("hopskipjump", "linf", "HopSkipJumpAttack", {"steps": 8}, 16, 1.1),
    ("boundary", "l2", "BoundaryAttack", {"steps": 1000}, 24, 1.1),
]


@pytest.mark.slow
@pytest.mark.verifies(
    "hopskipjump", "boundary",
    by="reference", against="foolbox 3.3.4 on two MNIST nets: median distance after the same steps and no more queries",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("net", ["kw", "cnn_a"])
@pytest.mark.parametrize(("name", "norm", "theirs", "params", "n", "margin"), FOOLBOX)
def test_no_further_than_foolbox(
    name: str, norm: str, theirs: str, params: dict[str, Any], n: int, margin: float, net: str, subject: Any
) -> None:
    # foolbox divides estimates by their norm over the whole batch, so its steps in l2 shrink as the batch grows
    model, x, y = subject(net, n)
    out = testbed.attack(name, norm=norm, **params).run(model, x, y)
    other = testbed.attack(f"foolbox:{theirs}", norm=norm, **params).run(model, x, y)
    right = out.first_step != 0
    assert out.success.all()
    assert np.median(out.distance[right]) <= margin * np.median(other.distance[right])
    assert np.median(out.queries[right]) <= np.median(other.queries[right])
