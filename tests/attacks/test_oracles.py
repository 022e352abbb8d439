"""Attacks against values worked out by hand or in closed form, on models small enough to know the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from scipy.stats import norm
from testbed_attacks.momentum import diverse, smooth
from testbed_attacks.transfer import TIFGSM
from testbed_attacks.warps import flowed, roughness, transform

import testbed


class Hill(torch.nn.Module):
    """One value in; cross-entropy of label 0 rises towards x = top and never makes it wrong."""

    def __init__(self, top: float, shape: Callable[[torch.Tensor], torch.Tensor] = torch.abs) -> None:
        super().__init__()
        self.top, self.shape = top, shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        height = 1 + 20 * self.shape(x.flatten(1)[:, 0] - self.top)
        return torch.stack([height, torch.zeros_like(height)], dim=1)


def last(name: str, model: Hill, start: float, steps: int, **more: Any) -> float:
    """Where a momentum attack ends after so many steps of 0.1."""
    attack = testbed.attack(name, eps=0.3, steps=steps, step_size=0.1, stop=False, **more)
    return float(attack(model, torch.full((1, 1, 1, 1), start), torch.zeros(1, dtype=torch.long)))


@pytest.mark.verifies("mifgsm", by="hand", against="g = mu g + G/|G| on a peak at 0.65, steps of 0.1")
def test_momentum_carries_over_the_peak() -> None:
    # G is +1, +1, -1, -1, -1: g = 1, 2, 1, 0, -1
    path = [last("mifgsm", Hill(0.65), 0.5, steps) for steps in (1, 2, 3, 4, 5)]
    np.testing.assert_allclose(path, [0.6, 0.7, 0.8, 0.8, 0.7], atol=1e-6)
    assert abs(last("mifgsm", Hill(0.65), 0.5, 3, decay=0.0) - 0.6) < 1e-6


@pytest.mark.verifies("nifgsm", by="hand", against="the same peak, the gradient taken 0.1 mu g ahead")
def test_nesterov_looks_ahead() -> None:
    # looks at 0.5, 0.7, 0.6: G = +1, -1, +1, so g = 1, 0, 1
    path = [last("nifgsm", Hill(0.65), 0.5, steps) for steps in (1, 2, 3)]
    np.testing.assert_allclose(path, [0.6, 0.6, 0.7], atol=1e-6)


@pytest.mark.verifies("sinifgsm", by="hand", against="a slope at x/2 that outweighs the one at x")
def test_scaled_copies_share_the_gradient() -> None:
    # at 0.8 the slope is -20 sigmoid(-7) = -0.018, at 0.4 it is +20 sigmoid(-3) = 0.95, half of which counts
    assert abs(last("sinifgsm", Hill(0.5), 0.8, 1, copies=1) - 0.7) < 1e-6
    assert abs(last("sinifgsm", Hill(0.5), 0.8, 1, copies=2) - 0.9) < 1e-6


@pytest.mark.verifies("vmifgsm", by="hand", against="the integral of the slope over the neighbourhood of a parabola")
def test_variance_of_the_gradient_turns_the_second_step() -> None:
    # the slope falls from 1.14 at 0.5 to 0.52 at 0.6; its mean over 0.5 +- 0.3 is 0.34: 0.52 + 0.34 - 1.14 < 0
    parabola = Hill(0.65, torch.square)
    assert abs(last("vmifgsm", parabola, 0.5, 2, neighbours=400, beta=1.0) - 0.6) < 1e-6
    assert abs(last("mifgsm", parabola, 0.5, 2) - 0.7) < 1e-6


@pytest.mark.verifies("difgsm", by="hand", against="bilinear resize and zero padding; MI where the probability is 0")
def test_diverse_inputs() -> None:
    image = torch.arange(100.0).reshape(1, 1, 10, 10)
    out = diverse(image, np.array([[0.4, 0.5, 0.99, 0.0]]), 0.8, 0.5)
    small = torch.nn.functional.interpolate(image, size=(9, 9), mode="bilinear", align_corners=False)
    assert torch.equal(out[:, :, 1:, :9], small) and out[:, :, 0].abs().sum() == 0 and out[..., 9].abs().sum() == 0
    assert torch.equal(diverse(image, np.array([[0.6, 0.5, 0.0, 0.0]]), 0.8, 0.5), image)
    assert abs(last("difgsm", Hill(0.65), 0.5, 3, prob=0.0) - 0.8) < 1e-6


def linear(weight: torch.Tensor, bias: float = 0.0) -> torch.nn.Module:
    """Logits (w . x + bias, 0): label 0 where the first is positive."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(weight.numel(), 2))
    model[1].weight.data = torch.stack([weight.flatten(), torch.zeros(weight.numel())])
    model[1].bias.data = torch.tensor([bias, 0.0])
    return model


@pytest.mark.verifies("tifgsm", by="reference", against="scipy.signal.convolve2d on a linear model's gradient")
def test_translation_invariance_is_a_convolution() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(1, 8, 8), torch.full((1, 1, 8, 8), 0.5)
    line = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 1.5**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    smoothed = torch.from_numpy(convolve2d(-w[0].numpy(), kernel, mode="same"))
    torch.testing.assert_close(smooth(-w[None], 5, 1.5)[0, 0].double(), smoothed, atol=1e-6, rtol=0)
    out = testbed.attack("tifgsm", eps=0.01, steps=1, kernel=5, sigma=1.5, stop=False)(
        linear(w, 2.0 - 0.5 * float(w.sum())), x, torch.zeros(1, dtype=torch.long)
    )
    torch.testing.assert_close(out[0, 0] - 0.5, 0.01 * smoothed.sign().float(), atol=1e-6, rtol=0)


@pytest.mark.verifies("tifgsm", by="reference", against="the paper's loop with the density at 15 points from -3 to 3")
def test_the_kernel_of_translation_invariance_is_the_authors() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 20 * 20, 4)).eval()
    x, eps = torch.rand(5, 3, 20, 20), 8 / 255
    y = model(x).argmax(1)
    line = norm.pdf(np.linspace(-3, 3, 15))
    kernel = torch.from_numpy(np.outer(line, line) / np.outer(line, line).sum()).float().expand(3, 1, 15, 15)
    now, momentum = x.clone(), torch.zeros_like(x)
    for _ in range(4):
        now.requires_grad_()
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model(now), y), now)
        gradient = torch.nn.functional.conv2d(gradient, kernel, padding="same", groups=3)
        momentum = momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        now = torch.clamp(x + (now.detach() + eps / 4 * momentum.sign() - x).clamp(-eps, eps), 0, 1)
    out = testbed.attack("tifgsm", eps=eps, steps=4, stop=False)(model, x, y)
    # a momentum of nearly nought may have either sign: all pixels but a few are the same
    assert ((out - now).abs() < 1e-6).double().mean() > 0.999
    wide = testbed.attack("tifgsm", eps=eps, steps=4, stop=False, sigma=3.0)(model, x, y)
    assert ((wide - now).abs() < 1e-6).double().mean() < 0.99
    with pytest.raises(ValueError, match="kernel must be odd"):
        TIFGSM(eps, kernel=4)
    with pytest.raises(ValueError, match="sigma: expected a number above 0"):
        TIFGSM(eps, sigma=0.0)


NEAR: list[tuple[str, str, float, dict[str, Any]]] = [
    ("deepfool", "l2", 0.03, {}),
    ("deepfool", "linf", 0.03, {}),
    ("ddn", "l2", 0.05, {"steps": 200}),
    ("cw", "l2", 0.05, {"steps": 200, "binary_search_steps": 6, "initial_const": 1.0}),
    ("ead", "l1", 0.3, {"steps": 200, "binary_search_steps": 6, "initial_const": 1.0, "decision_rule": "L1"}),
    ("hopskipjump", "l2", 0.03, {"steps": 20, "max_gradient_eval_steps": 200}),
    ("hopskipjump", "linf", 0.06, {"steps": 20, "max_gradient_eval_steps": 200}),
    ("boundary", "l2", 0.03, {"steps": 3000}),
]


@pytest.mark.verifies(
    "deepfool", "ddn", "cw", "ead", "hopskipjump", "boundary",
    by="hand", against="the distance |w . x + b| / |w|_dual of a linear model",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "norm", "slack", "params"), NEAR, ids=lambda v: v if isinstance(v, str) else "")
def test_minimum_norm_attacks_find_a_linear_models_distance(
    name: str, norm: str, slack: float, params: dict[str, Any]
) -> None:
    torch.manual_seed(3)
    w, x = torch.randn(1, 4, 4), 0.4 + 0.2 * torch.rand(6, 1, 4, 4)
    gap = (x.flatten(1) @ w.flatten()).mean()
    model = linear(w, float(-gap) + 0.25)
    keep = (model(x)[:, 0] > 0.1) & (model(x)[:, 0] < 0.6)
    x = x[keep]
    dual = {"l2": 2.0, "linf": 1.0, "l1": float("inf")}[norm]
    exact = (model(x)[:, 0] / torch.linalg.vector_norm(w, ord=dual)).detach().numpy()
    out = testbed.attack(name, norm=norm, **params).run(model, x, torch.zeros(len(x), dtype=torch.long))
    assert out.success.all() and len(x) >= 2
    assert (out.distance >= exact * (1 - 1e-3)).all()
    np.testing.assert_allclose(out.distance, exact, rtol=slack)


@pytest.mark.verifies("spsa", by="hand", against="the corner of the ball that is worst for a linear model")
def test_spsa_climbs_to_the_corner() -> None:
    torch.manual_seed(0)
    w = torch.randn(1, 5, 5)
    w = w.sign() * (0.5 + w.abs())
    out = testbed.attack("spsa", eps=0.1, steps=40, samples=256, learning_rate=0.02)(
        linear(w, 100.0), torch.full((2, 1, 5, 5), 0.5), torch.zeros(2, dtype=torch.long)
    )
    assert ((out - (0.5 - 0.1 * w.sign())).abs() < 1e-3).float().mean() > 0.95


@pytest.mark.verifies("one_pixel", by="hand", against="the best single pixel of a linear model, by trying them all")
def test_one_pixel_finds_what_exhaustion_finds() -> None:
    torch.manual_seed(1)
    w, x = torch.randn(1, 4, 4), torch.rand(8, 1, 4, 4)
    model = linear(w, float(-(x.flatten(1) @ w.flatten()).min()) + 0.5)
    fall = torch.where(w > 0, w * x[:, 0], -w * (1 - x[:, 0])).flatten(1).amax(1)
    clear = ((model(x)[:, 0] - fall).abs() > 0.05).numpy()
    out = testbed.attack("one_pixel", eps=1, generations=30)
    fooled = out.run(model, x, torch.zeros(8, dtype=torch.long)).success
    assert (fooled == (fall > model(x)[:, 0]).numpy())[clear].all() and 0 < fooled.sum() < 8 and clear.sum() >= 6


@pytest.mark.verifies("spatial", by="hand", against="torch.rot90 and shifted arrays; the worst of a grid by trying all")
def test_rotations_and_translations() -> None:
    torch.manual_seed(0)
    x = torch.rand(5, 1, 7, 7)
    torch.testing.assert_close(transform(x, 90.0, 0.0, 0.0), torch.rot90(x, 1, (2, 3)), atol=1e-5, rtol=0)
    moved = transform(x, 0.0, 2.0, -1.0)
    torch.testing.assert_close(moved[:, :, :6, 2:], x[:, :, 1:, :5], atol=1e-5, rtol=0)
    assert moved[:, :, 6].abs().max() < 1e-5 and moved[..., :2].abs().max() < 1e-5
    w = torch.randn(1, 7, 7)
    model = linear(w, float(-(x.flatten(1) @ w.flatten()).min()) + 1.0)
    out = testbed.attack("spatial", rotations=3, translations=3).run(model, x, torch.zeros(5, dtype=torch.long))
    worst = [
        model(transform(x, angle, right, down))[:, 0]
        for angle in (-30.0, 0.0, 30.0)
        for right in (-3.0, 0.0, 3.0)
        for down in (-3.0, 0.0, 3.0)
    ]
    assert ((torch.stack(worst).amin(0) < 0).numpy() == out.success).all()


@pytest.mark.verifies("stadv", by="hand", against="whole and half pixel flows of a known image; roughness of a step")
def test_flow_fields() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    right = torch.zeros(1, 3, 4, 2)
    right[..., 0] = 1.0
    torch.testing.assert_close(flowed(x, right)[0, 0, 1], torch.tensor([5.0, 6.0, 7.0, 7.0]))
    torch.testing.assert_close(flowed(x, right / 2)[0, 0, 1], torch.tensor([4.5, 5.5, 6.5, 7.0]))
    assert float(roughness(right)) < 17 * 1.1e-4
    step = torch.zeros(1, 3, 4, 2)
    step[0, 1, 1] = torch.tensor([3.0, 4.0])  # four neighbours differ by a flow of length 5
    assert abs(float(roughness(step)) - 20.0) < 2e-3


@pytest.mark.verifies("patch", by="hand", against="the worst patch of a linear model: every value at a bound")
def test_the_worst_patch_of_a_linear_model() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(1, 6, 6), torch.full((4, 1, 6, 6), 0.5)
    out = testbed.attack("patch", area=0.25, steps=40)(linear(w, 100.0), x, torch.zeros(4, dtype=torch.long))
    changed = out != x
    assert (changed.flatten(1).sum(1) == 9).all()
    torch.testing.assert_close(out[changed], (w < 0).float().expand(4, 1, 6, 6)[changed])


@pytest.mark.verifies("universal", by="hand", against="-eps sign(w), the worst delta for a linear model")
def test_the_worst_universal_perturbation_of_a_linear_model() -> None:
    torch.manual_seed(0)
    w, x = torch.randn(1, 5, 5), 0.4 + 0.2 * torch.rand(6, 1, 5, 5)
    model = linear(0.1 * w, 1.0)
    out = testbed.attack("universal", eps=0.1, steps=30)(model, x, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(out - x, -0.1 * w.sign().expand(6, 1, 5, 5), atol=1e-5, rtol=0)
