"""Detector scores as torch functions: the same values, and gradients that differences confirm."""

import warnings

import numpy as np
import pytest

from testbed import plugins
from testbed.detection.base import FitWarning
from testbed.detection.differentiable import FORMS, slopes, torch_score
from testbed.types import Outputs

SMALL = {
    "knn": {"k": 10},
    "nnguide": {"k": 10, "share": 0.2},
    "weighted_energy": {"weights": (1.0, 0.5, 1.0, 0.8, 1.2)},
}
NAMES = sorted(
    n
    for n in plugins.installed("detector")
    if n != "knn_faiss" and "inputs" not in plugins.read("detector", n).facts["consumes"]
)


def fitted(name, world):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return plugins.read("detector", name).build(**SMALL.get(name, {})).fit(world.train)


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients(name, world) -> None:
    torch = pytest.importorskip("torch")
    detector = fitted(name, world)
    some = world.test.take(slice(0, 6))
    f = torch.from_numpy(some.logits.astype(np.float64)).requires_grad_()
    z = torch.from_numpy(some.features.astype(np.float64)).requires_grad_()
    score = torch_score(detector, world.train)(f, z)
    expected = detector.score(Outputs(f.detach().numpy(), z.detach().numpy()))
    coarse = name == "relation"  # its own sum is of float32 terms: values agree to 1e-6, differences of it are noise
    np.testing.assert_allclose(score.detach().numpy(), expected, rtol=2e-6 if coarse else 1e-9, atol=1e-9)
    score.sum().backward()
    for part, tensor in {"logits": f, "features": z}.items():
        if part not in detector.consumes:
            assert tensor.grad is None or not tensor.grad.any()
            continue

        def moved(values, part=part):
            both = {"logits": f.detach().numpy(), "features": z.detach().numpy()} | {part: values}
            if coarse:
                return torch_score(detector)(*map(torch.from_numpy, both.values())).numpy()
            return detector.score(Outputs(**both))

        numeric = slopes(moved, tensor.detach().numpy(), step=1e-6)
        np.testing.assert_allclose(tensor.grad.numpy(), numeric, rtol=2e-3, atol=2e-4 * max(1.0, np.abs(numeric).max()))


def test_closed_forms_belong_to_installed_detectors() -> None:
    classes = {plugins.read("detector", name).loader().__name__ for name in NAMES}
    assert set(FORMS) <= classes
