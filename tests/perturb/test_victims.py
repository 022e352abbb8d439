"""The victim "model and calibrator": its values are the calibrator's, its gradients right, or BPDA where it says."""

import numpy as np
import pytest
import torch

import testbed
from testbed.perturb.victims import calibrated


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    return 3 * rng.normal(size=(400, 4)) + 2 * np.eye(4)[labels], labels


@pytest.mark.parametrize("name", ["temperature", "platt", "isotonic"])
def test_values_are_the_calibrators(name, data):
    calibrator = testbed.calibrator(name).fit(*data)
    out = calibrated(torch.nn.Identity(), calibrator)(torch.tensor(data[0]))
    np.testing.assert_allclose(out.exp().numpy(), calibrator.probs(data[0]), atol=1e-12)


def test_the_gradient_through_temperature_is_that_of_scaled_logits(data):
    calibrator = testbed.calibrator("temperature").fit(*data)
    temperature = calibrator.state()["temperature"]
    z = torch.tensor(data[0][:20], requires_grad=True)
    calibrated(torch.nn.Identity(), calibrator)(z)[:, 1].sum().backward()
    same = torch.tensor(data[0][:20], requires_grad=True)
    (same / temperature).log_softmax(1)[:, 1].sum().backward()
    np.testing.assert_allclose(z.grad.numpy(), same.grad.numpy(), atol=1e-7)


def test_a_piecewise_constant_calibrator_hands_the_gradient_to_the_base_logits(data):
    z = torch.tensor(data[0][:20], requires_grad=True)
    victim = calibrated(torch.nn.Identity(), testbed.calibrator("isotonic").fit(*data))
    assert not victim.adaptive
    victim(z)[:, 2].sum().backward()
    np.testing.assert_array_equal(z.grad.numpy(), np.tile([0.0, 0, 1, 0], (20, 1)))
