"""The shift handle: bad input is refused with words that help, and a plug-in is not trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.errors import DataError, PluginViolation, UsageError
from testbed.perturb.shift import Shift
from testbed.plugins import names, read

IMAGES = np.full((2, 8, 8, 3), 100, np.uint8)


def user(tmp_path: Path, body: str, **params: Any) -> Shift:
    """A user's shift from a file."""
    (tmp_path / "mine.py").write_text(f"import numpy as np\ndef mine(images, *, amount: int = 3, rng):\n    {body}\n")
    return Shift(read("shift", "./mine.py:mine", tmp_path), params)


RANGED = [n for n in names("shift") if "image" not in read("shift", n).facts["kinds"]
          and read("shift", n).facts["level"] == "example"]  # fmt: skip


@pytest.mark.parametrize("name", RANGED)
def test_what_is_relative_to_a_range_asks_for_it(name: str) -> None:
    shift = Shift(read("shift", name), {})
    x = np.zeros((2, 10, 3) if shift.plugin.facts["kinds"] == ("series",) else (2, 3), np.float32)
    with pytest.raises(UsageError, match=rf"{name}' is relative to the range of each feature.*spec=testbed.types.Spec"):
        shift(x, ids=range(2))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"severity": 6}, r"severity: expected a number in \[0, 5\]"),
        ({"severity": -1}, r"severity: expected a number in \[0, 5\]"),
        ({"severity": float("nan")}, r"severity: expected a number in \[0, 5\]"),
        ({"severity": "much"}, "severity"),
        ({"params": "cifar"}, "did you mean 'cifar32'"),
        ({"severty": 3}, "did you mean 'severity'"),
    ],
)
def test_bad_parameters_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Shift(read("shift", "fog"), params)


@pytest.mark.parametrize(
    ("images", "ids", "words"),
    [
        (IMAGES.astype(np.float32) / 255, [0, 1], r"uint8 images \[n h w c\]"),
        (IMAGES.astype(np.int64) + 300, [0, 1], "got int64"),
        (IMAGES[0], [0], r"got uint8 \[8, 8, 3\]"),
        (IMAGES[:0], [], "at least one example"),
        (IMAGES[:, :, :0], [0, 1], "no empty axis"),
        (IMAGES, [0], r"shape \[2\]"),
        (IMAGES, [0.5, 1.5], "one integer id"),
        ([[1]], [0], "got list"),
    ],
)
def test_bad_images_are_refused(images: Any, ids: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Shift(read("shift", "fog"), {})(images, ids=ids)


def test_a_users_function_is_a_shift(tmp_path: Path) -> None:
    shift = user(tmp_path, "images += np.uint8(amount); return images", amount=5)
    assert (shift(IMAGES, ids=[0, 1]) == 105).all() and (IMAGES == 100).all()
    assert shift.severity is None and shift.taken((8, 8, 3)) == ""
    with pytest.raises(UsageError, match="no separate draws"):
        shift.sample((8, 8, 3), ids=[0])


@pytest.mark.parametrize("body", ["return images[:1]", "return images / 2", "return None"])
def test_a_shift_that_breaks_the_contract_is_named(tmp_path: Path, body: str) -> None:
    with pytest.raises(PluginViolation, match="expected uint8"):
        user(tmp_path, body)(IMAGES, ids=[0, 1])


def test_fractional_severities_lie_between_the_levels() -> None:
    noise = [Shift(read("shift", "gaussian_noise"), {"severity": s, "params": "cifar32"}) for s in (0.5, 1, 1.5, 2)]
    values = [s.built.setting((32, 32, 3))["sd"] for s in noise]
    assert values == pytest.approx([0.02, 0.04, 0.05, 0.06])


@pytest.mark.parametrize(
    ("shape", "taken"),
    [
        ((28, 28, 1), "mnist28"),
        ((28, 28, 3), "cifar32"),
        ((32, 32, 3), "cifar32"),
        ((64, 64, 3), "tiny64"),
        ((224, 224, 3), "imagenet224"),
        ((299, 299, 3), "inception299"),
        ((512, 512, 3), "inception299"),
        ((96, 96, 3), "between tiny64 and imagenet224 at 96 px"),
    ],
)
def test_auto_says_which_set_it_took(shape: tuple[int, int, int], taken: str) -> None:
    assert Shift(read("shift", "fog"), {}).taken(shape) == taken


def test_auto_interpolates_in_the_logarithm_of_the_size() -> None:
    shift = Shift(read("shift", "gaussian_noise"), {"severity": 1})
    halfway = round((64 * 224) ** 0.5)
    assert shift.built.setting((halfway, halfway, 3))["sd"] == pytest.approx((0.04 + 0.08) / 2, abs=2e-4)
