"""One table of cases, one contract: what every installed shift of images must do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from testbed.errors import DataError, UsageError
from testbed.perturb.shift import Shift
from testbed.plugins import names, read

#: Parameters that a shift needs before it can run; none of the others has a required one.
NEEDS: dict[str, dict[str, Any]] = {"monotone": {"of": "gaussian_noise"}}

IMAGE_SHIFTS = [
    n
    for n in names("shift")
    if read("shift", n).facts["level"] == "example" and "image" in read("shift", n).facts["kinds"]
]
SHAPES = [(28, 28, 1), (33, 47, 3), (64, 64, 4), (1, 1, 1), (5, 2, 2)]


def handle(name: str, **params: Any) -> Shift:
    return Shift(read("shift", name), {**NEEDS.get(name, {}), **params})


def photos(n: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Smooth random fields with an edge: closer to photographs than white noise."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0, 255, (n, 4, 4, shape[2]))
    rows, columns = (np.linspace(0, 3, k).round().astype(int) for k in shape[:2])
    ramp = np.linspace(0, 60, shape[1])[:, None]
    return np.clip(coarse[:, rows][:, :, columns] * 0.7 + ramp, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_any_size_and_channel_count(name: str, shape: tuple[int, int, int]) -> None:
    images = photos(3, shape)
    before = images.copy()
    for severity in (0.5, 3, 5):
        shifted = handle(name, severity=severity)(images, ids=[4, 9, 2], seed=1)
        assert shifted.shape == images.shape and shifted.dtype == np.uint8
    assert (images == before).all()


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_severity_0_is_the_identity_and_5_is_not(name: str) -> None:
    images = photos(4, (32, 32, 3))
    assert (handle(name, severity=0)(images, ids=range(4)) == images).all()
    assert (handle(name, severity=5)(images, ids=range(4)) != images).mean() > 0.01


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_any_batch_order_and_subset_gives_the_same_bytes(name: str) -> None:
    images, ids = photos(11, (32, 32, 3)), np.array([7, 1, 100, 3, 5, 2**40, 8, 9, 10, 0, 12])
    shift = handle(name, severity=4)
    whole = shift(images, ids=ids, seed=3)
    assert (shift(images, ids=ids, seed=3) == whole).all()
    for rows in (slice(0, 1), slice(1, 8), slice(8, 11), np.array([10, 0, 5, 2]), np.arange(11)[::-1]):
        assert (shift(images[rows], ids=ids[rows], seed=3) == whole[rows]).all()


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_chunks_cannot_be_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photos(5, (28, 28, 1))
    whole = handle(name)(images, ids=range(5))
    monkeypatch.setattr("testbed.perturb.shift.CHUNK", 28 * 28 * 2)
    assert (handle(name)(images, ids=range(5)) == whole).all()


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_seed_and_id_key_the_draws(name: str) -> None:
    images = np.repeat(photos(1, (32, 32, 3)), 6, axis=0)
    shift = handle(name, severity=3)
    draws = shift.sample((32, 32, 3), ids=range(6)) if hasattr(shift.built, "sample") else {}
    if not draws:
        assert (shift(images, ids=range(6), seed=1) == shift(images, ids=range(6, 12), seed=2)).all()
        return
    one, two = shift(images, ids=range(6), seed=1), shift(images, ids=range(6), seed=2)
    if name != "rotate":  # which uses its draws only with mnist28
        assert (one != two).any() and (one != one[:1]).any()


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_draws_can_be_kept_and_replayed_and_do_not_know_the_severity(name: str) -> None:
    images, ids = photos(4, (32, 32, 3)), [3, 1, 4, 15]
    mild, strong = handle(name, severity=1.5), handle(name, severity=5)
    draws = mild.sample((32, 32, 3), ids=ids, seed=9)
    again = strong.sample((32, 32, 3), ids=ids, seed=9)
    assert draws.keys() == again.keys() and all((draws[k] == again[k]).all() for k in draws)
    assert (strong.apply(images, draws) == strong(images, ids=ids, seed=9)).all()
    with pytest.raises(DataError if draws else UsageError, match="rows" if draws else "parameter"):
        strong.apply(images, {k: v[:2] for k, v in draws.items()}) if draws else handle(name, unknown=1)


@pytest.mark.parametrize("name", IMAGE_SHIFTS)
def test_facts_and_documentation(name: str) -> None:
    plugin = read("shift", name)
    assert plugin.facts["version"] >= 1 and plugin.facts["reference"].year >= 1998
    assert (plugin.loader().__doc__ or "").strip() and plugin.name == plugin.loader().name
