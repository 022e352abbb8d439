"""What a network is given and what is taken from it: layouts, dtypes, states, faults of the network's own."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import testbed
from testbed import boundary
from testbed.errors import DataError, PluginViolation
from testbed.models.reading import Reading, log_probabilities
from testbed.perturb.attack import Attack
from testbed.perturb.state import State
from testbed.plugins import FACTS, Plugin
from testbed.types import Outputs

X = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = torch.nn.Linear(192, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 5 * self.head(x.flatten(1))


def pgd() -> Any:
    return testbed.attack("pgd", norm="linf", eps=0.1, steps=3)


def labels(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(X).argmax(1)


@pytest.mark.parametrize(
    "laid",
    [
        X.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        X[:, :1].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        X.transpose(2, 3),
        X[:, :, ::2],
        X[:1].expand(4, 3, 8, 8),
        X[:0],
    ],
)
def test_one_layout(laid: torch.Tensor) -> None:
    out = boundary.row_major(laid)
    assert torch.equal(out, laid) and out.stride() == torch.empty(laid.shape).stride()
    assert boundary.row_major(out) is out


def test_rows_that_are_no_answer() -> None:
    inf, nan = float("inf"), float("nan")
    z = torch.tensor([[0.0, 1.0], [nan, 1.0], [inf, 1.0], [-inf, 1.0], [-inf, -inf], [-inf, nan]])
    assert boundary.predicted(z).tolist() == [1, -1, -1, 1, -1, -1]
    assert Outputs(z.numpy()).predicted.tolist() == [1, -1, -1, 1, -1, -1]
    assert torch.equal(boundary.logits(z)[[1, 2, 4, 5]].isfinite().all(1), torch.zeros(4, dtype=torch.bool))


def test_masked_classes_keep_softmax_and_take_no_gradient() -> None:
    z = torch.tensor([[2.0, -3.0, 5.0]], requires_grad=True)
    masked = boundary.logits(z.masked_fill(torch.tensor([False, True, False]), float("-inf")))
    torch.testing.assert_close(masked.softmax(1)[0, [0, 2]], z[0, [0, 2]].softmax(0))
    (gradient,) = torch.autograd.grad(masked[0, 0] - masked[0, 1], z)
    assert gradient.tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("how", [lambda x: x.sub_(0.5), lambda x: x.data.mul_(2), lambda x: torch.relu_(x.flatten(1))])
@pytest.mark.parametrize("name", ["pgd", "square"])
def test_a_model_that_changes_its_input_is_named_and_no_attack(name: str, how: Any) -> None:
    class InPlace(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            how(x)
            return super().forward(x)

    with pytest.raises(DataError, match="the model InPlace changes its input in place"):
        testbed.attack(name, norm="linf", eps=0.1).run(InPlace().eval(), X.clone(), torch.zeros(4, dtype=torch.long))


def test_an_error_in_a_forward_is_told_with_its_line() -> None:
    class Bug(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + undefined_thing  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(
        DataError, match=r"forward of the model Bug raised NameError: .*undefined_thing.*test_boundary\.py:\d+"
    ):
        pgd().run(Bug(), X, torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("inside", [torch.inference_mode, torch.no_grad])
def test_an_attack_has_gradients_wherever_it_is_called(inside: Any) -> None:
    model = Net().eval()
    want = pgd().run(model, X, labels(model))
    with inside():
        got = pgd().run(model, X * 1.0, labels(model))
    assert torch.equal(want.x, got.x) and want.gradients.sum() > 0


def quantised() -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net: torch.nn.Module = torch.ao.quantization.quantize_dynamic(
            Net().eval(), {torch.nn.Linear}, dtype=torch.qint8
        )
    return net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "model",
    [
        quantised(),
        torch.jit.script(Net().eval()),
        torch.jit.freeze(torch.jit.script(Net().eval())),
        torch.jit.trace(Net().eval(), X),
    ],
    ids=["int8", "scripted", "frozen", "traced"],
)
def test_networks_that_are_not_made_of_tensors_and_layers(model: Any) -> None:
    y = labels(model)
    for name in ("pgd", "square"):
        out = testbed.attack(name, norm="linf", eps=0.3).run(model, X, y)
        assert (out.success == (labels_of(model, out.x) != y).numpy()).all()
    assert out.success.any()


def labels_of(model: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x).argmax(1)


def test_the_state_is_watched_whatever_it_is_made_of() -> None:
    net = quantised()
    state, whole = State(net), State(torch.nn.BatchNorm1d(2))
    assert state.changed() == [] and whole.changed() == []
    net.head = quantised().head  # the same weights in another object are the same state
    assert state.changed() == []
    other = torch.nn.Linear(192, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net.head = torch.ao.quantization.quantize_dynamic(torch.nn.Sequential(other), dtype=torch.qint8)[0]
    assert "head._packed_params._packed_params" in state.changed()


def test_nan_in_a_buffer_and_a_model_that_counts_are_no_change_by_the_attack() -> None:
    class Counts(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("empty", torch.tensor(float("nan")))
            self.register_buffer("asked", torch.tensor(0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            return super().forward(x)

    def vandal(model: Any, x: torch.Tensor, y: torch.Tensor, *, rng: Any) -> torch.Tensor:
        model.module.head.bias.data.add_(1)
        return x

    net = Counts().eval()
    assert len(pgd().run(net, X, labels(net))) == 4
    before = net.head.bias.clone()
    plugin = Plugin("attack", "vandal", "vandal", (), dict(FACTS["attack"]), None, lambda: vandal)
    attack = Attack(plugin, {}, "linf", 0.1)
    with pytest.raises(PluginViolation, match=r"changed the model's weights \(1, put back\): head\.bias"):
        attack.run(net, X, labels(net))
    assert torch.equal(net.head.bias, before)


class Pair(NamedTuple):
    aux: Any
    logits: Any


@pytest.mark.parametrize(
    ("key", "found"), [(1, (0, 7)), ("logits", {"logits": 7}), ("logits", Pair(0, 7)), (1, Pair(0, 7))]
)
def test_the_part_that_holds_the_logits(key: Any, found: Any) -> None:
    assert boundary.pick(found, key) == 7


def test_a_key_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"gives a dict with keys 'a', which has no output 'logits'"):
        boundary.pick({"a": 1}, "logits", Net())
    with pytest.raises(DataError, match=r"gives a tensor \[4, 3\], which has no output 3"):
        boundary.pick(torch.zeros(4, 3), 3, Net())


def test_probabilities_become_their_logs_and_logits_are_refused() -> None:
    p = torch.tensor([[0.2, 0.8], [1.0, 0.0], [float("nan"), 0.5]])
    z = Reading(scores="probs").of(p, None)
    np.testing.assert_allclose(z[:2].softmax(1).numpy(), p[:2].numpy(), atol=1e-7)
    assert boundary.answered(z).tolist() == [True, True, False]
    with pytest.raises(DataError, match=r"scores: probs.*no probabilities.*sums to 3.*scores: logits"):
        log_probabilities(torch.tensor([[1.0, 2.0]]), "net")
