"""The victim counts what it is asked, per example, and lets gradients reach the input only."""

from __future__ import annotations

import torch

from testbed.perturb.victim import Victim, frozen


def linear(weight: list[list[float]]) -> torch.nn.Module:
    """A linear model with these weights and no bias."""
    layer = torch.nn.Linear(len(weight[0]), len(weight), bias=False)
    layer.weight.data = torch.tensor(weight)
    return layer


def test_rows_are_counted_where_they_belong() -> None:
    victim = Victim(linear([[1.0, 0.0], [0.0, 1.0]]), ids=[10, 11, 12])
    victim(torch.zeros(2, 2), rows=torch.tensor([0, 2]))
    victim(torch.zeros(3, 2))
    assert victim.counts.queries.tolist() == [2, 1, 2]


def test_a_batch_of_unknown_rows_is_shared_evenly() -> None:
    victim = Victim(linear([[1.0], [0.0]]), ids=[0, 1, 2, 3])
    victim(torch.zeros(2, 1))
    assert victim.counts.queries.tolist() == [0.5] * 4


def test_a_part_of_the_set_counts_into_the_whole() -> None:
    victim = Victim(linear([[1.0], [0.0]]), ids=[0, 1, 2, 3])
    victim.take(torch.tensor([1, 3]))(torch.zeros(2, 1))
    assert victim.counts.queries.tolist() == [0, 1, 0, 1]


def test_a_backward_pass_of_the_users_own_is_counted() -> None:
    model = linear([[1.0, 2.0], [0.0, 1.0]])
    victim = Victim(model, ids=[0, 1])
    x = torch.zeros(2, 2, requires_grad=True)
    with frozen(model):
        victim(x)[:, 0].sum().backward()
    assert victim.counts.gradients.tolist() == [1, 1]
    assert x.grad is not None and x.grad.tolist() == [[1.0, 2.0], [1.0, 2.0]]
    assert model.weight.grad is None


def test_gradient_in_chunks_is_the_gradient_of_the_whole() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3))
    x, y = torch.rand(11, 5), torch.arange(11) % 3
    whole, parts = Victim(model, ids=range(11), batch=100), Victim(model, ids=range(11), batch=4)
    for one, two in zip(
        whole.gradient(x, lambda z, at: z.gather(1, y[at, None]).squeeze(1)),
        parts.gradient(x, lambda z, at: z.gather(1, y[at, None]).squeeze(1)),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


def test_zero_and_nan_gradients_are_counted_and_made_harmless() -> None:
    victim = Victim(lambda x: torch.stack([x[:, 0].sqrt(), x[:, 1] * 0], dim=1), ids=[0, 1])
    gradient, _, _ = victim.gradient(torch.tensor([[0.0, 1.0], [1.0, 1.0]]), lambda z, at: z[:, 0])
    assert victim.counts.bad_gradients.tolist() == [1, 0]
    assert torch.isfinite(gradient).all()
    victim.gradient(torch.ones(2, 2), lambda z, at: z[:, 1])
    assert victim.counts.zero_gradients.tolist() == [1, 1]


def test_modes_and_flags_come_back() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(), torch.nn.Linear(2, 2))
    model[2].eval()
    model[0].weight.requires_grad_(False)
    with frozen(model):
        assert not model[1].training and not any(p.requires_grad for p in model.parameters())
    assert model[1].training and not model[2].training
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True]


def test_the_first_wrong_query_is_noted() -> None:
    victim = Victim(linear([[1.0], [-1.0]]), ids=[0, 1], labels=torch.tensor([0, 0]))
    for values in ([1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0]):
        victim(torch.tensor(values)[:, None])
    assert victim.counts.first_wrong.tolist() == [2, 3]


def test_batches_are_filled_up_without_being_counted() -> None:
    seen: list[int] = []
    layer = linear([[1.0, 2.0], [0.5, -1.0]])
    layer.register_forward_hook(lambda _, given, __: seen.append(len(given[0])))
    victim = Victim(layer, ids=list(range(33)))
    x = torch.arange(66.0).reshape(33, 2)
    gradient, loss, logits = victim.gradient(x, lambda z, at: z[:, 0] ** 2)
    assert seen == [34] and len(gradient) == len(loss) == len(logits) == 33
    torch.testing.assert_close(logits, x @ layer.weight.T)
    torch.testing.assert_close(gradient, 2 * (x[:, :1] + 2 * x[:, 1:]) * layer.weight[0])
    assert victim.counts.queries.tolist() == victim.counts.gradients.tolist() == [1.0] * 33


def test_a_black_box_is_asked_for_no_more_than_it_is_asked() -> None:
    seen: list[int] = []

    def box(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x

    Victim(box, ids=list(range(33)))(torch.zeros(33, 2))
    assert seen == [33]


def test_a_model_that_normalises_by_its_batch_gets_it_as_it_is() -> None:
    norm = torch.nn.BatchNorm1d(2, track_running_stats=False).eval()
    x = torch.arange(66.0).reshape(33, 2)
    torch.testing.assert_close(Victim(norm, ids=list(range(33)))(x), norm(x))
