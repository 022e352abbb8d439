"""Online calibrators on streams: they follow a drift, keep constant memory, and do not care how a stream is cut."""

from __future__ import annotations

import numpy as np
import pytest

from testbed.calibration.inputs import softmax
from testbed.calibration.online import OnlinePlatt, WindowedTemperature
from testbed.calibration.temperature import solve
from testbed.metrics import ece, nll


def stream(n: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits `sharpness` times too sharp for the labels drawn."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 3)) * 1.5
    y = np.minimum((softmax(z).cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), 2)
    return z * sharpness, y


def test_window_holds_the_last_examples_only() -> None:
    (z1, y1), (z2, y2) = stream(500, 1.0, 0), stream(300, 4.0, 1)

    cal = WindowedTemperature(window=300).fit(z1, y1).partial_fit(z2, y2)

    assert cal.state()["temperature"] == pytest.approx(solve(z2, y2).temperature)
    assert cal.state()["recent"].shape == (300, 3)
    assert cal.state()["n"] == 800


@pytest.mark.parametrize("forecast", ["platt", "calibeating"])
def test_batches_of_any_size_learn_the_same(forecast: str) -> None:
    z, y = stream(400, 3.0, 0)
    whole = OnlinePlatt(forecast=forecast).fit(z, y)  # type: ignore[arg-type]
    parts = OnlinePlatt(forecast=forecast).fit(z[:10], y[:10])  # type: ignore[arg-type]
    for start in range(10, 400, 30):
        parts.partial_fit(z[start : start + 30], y[start : start + 30])

    assert np.allclose(whole.probs(z), parts.probs(z), rtol=1e-12)


@pytest.mark.parametrize("forecast", ["platt", "calibeating", "hedging"])
def test_memory_does_not_grow(forecast: str) -> None:
    def size(n: int) -> int:
        cal = OnlinePlatt(forecast=forecast).fit(*stream(n, 3.0, 0))  # type: ignore[arg-type]
        return sum(value.nbytes for value in cal.state().values() if isinstance(value, np.ndarray))

    assert size(50) == size(800)


@pytest.mark.parametrize("forecast", ["platt", "calibeating", "hedging"])
def test_over_confidence_that_sets_in_is_learned_away(forecast: str) -> None:
    cal = OnlinePlatt(forecast=forecast).fit(*stream(200, 1.0, 0))  # type: ignore[arg-type]
    errors, raw = [], []
    for step in range(12):
        z, y = stream(250, 4.0, 10 + step)
        errors.append(ece(cal.probs(z), y))
        raw.append(ece(softmax(z), y))
        cal.partial_fit(z, y)

    assert np.mean(errors[4:]) < 0.6 * np.mean(raw[4:])


def test_windowed_temperature_beats_a_static_one_after_a_drift() -> None:
    z0, y0 = stream(1000, 1.0, 0)
    online = WindowedTemperature(window=500).fit(z0, y0)
    static = solve(z0, y0).temperature
    gains = []
    for step in range(4):
        z, y = stream(500, 4.0, 20 + step)
        gains.append(nll(softmax(z / static), y) - nll(online.probs(z), y))
        online.partial_fit(z, y)

    assert min(gains[1:]) > 0.05


def test_hedging_is_calibrated_on_an_adversarial_sequence() -> None:
    z = np.log(np.array([[0.6, 0.4]]))
    start = np.repeat(z, 2, axis=0), np.array([0, 1])
    cals = {name: OnlinePlatt(forecast=name).fit(*start) for name in ("platt", "hedging")}  # type: ignore[arg-type]
    said: dict[str, list[float]] = {"platt": [], "hedging": []}
    was = []
    for _ in range(1500):
        for name, cal in cals.items():
            said[name].append(float(cal.probs(z)[0, 0]))
        right = said["platt"][-1] < 0.5
        was.append(float(right))
        for cal in cals.values():
            cal.partial_fit(z, np.array([0 if right else 1]))

    def gap(name: str) -> float:
        bins = (10 * np.array(said[name])).astype(int)
        return sum(abs((np.array(said[name]) - was)[bins == b].sum()) for b in range(10)) / len(was)

    assert gap("hedging") < 0.06
    assert gap("platt") > 2 * gap("hedging")


def test_partial_fit_without_a_fit_starts_the_stream() -> None:
    z, y = stream(50, 2.0, 0)

    assert np.array_equal(OnlinePlatt().partial_fit(z, y).probs(z), OnlinePlatt().fit(z, y).probs(z))
