"""Tables that need arithmetic and no run: CIFAR-10.1, duplicates in CIFAR-10, mean corruption error.

Each function gives (value, lower end, upper end, n): a 95 % interval where there is one, else the value three times.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np

from testbed.data.arrays import arrays
from testbed.data.base import data_file
from testbed.errors import DataError
from testbed.metrics.corruption import ALEXNET, mean_corruption_error
from testbed.types import Array, Float64

Result = tuple[float, float, float, int]


def clopper_pearson(right: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a share (Clopper & Pearson 1934).

    >>> [round(end, 4) for end in clopper_pearson(96, 100)]
    [0.9007, 0.989]
    """
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if right == 0 else float(beta.ppf(tail, right, n - right + 1))
    high = 1.0 if right == n else float(beta.ppf(1 - tail, right + 1, n - right))
    return low, high


def share(right: int, n: int) -> Result:
    """A share with its Clopper-Pearson interval."""
    return (right / n, *clopper_pearson(right, n), n)


@lru_cache(maxsize=1)
def predictions() -> Mapping[str, Array]:
    """The stored predictions of 30 models on CIFAR-10 ("original") and on CIFAR-10.1 v4 and v6."""
    path = data_file("cifar10.1-predictions/cifar10_1_predictions.npz", "cifar10.1-predictions")
    names = ["models", *(f"{kind}_{part}" for kind in ("pred", "labels") for part in ("original", "v4", "v6"))]
    return dict(zip(names, arrays(path, *names), strict=True))


def cifar101_accuracy(model: str, part: str) -> Result:
    """Accuracy of one of the 30 models on a part: "original", "v4" or "v6"."""
    stored = predictions()
    row = stored["models"].tolist().index(model)
    return share(int((stored[f"pred_{part}"][row] == stored[f"labels_{part}"]).sum()), len(stored[f"labels_{part}"]))


def cifar101_gap(model: str, part: str) -> Result:
    """Accuracy on the original test set less that on the new one, with Newcombe's (1998) interval for two samples."""
    (a, a_low, a_high, n), (b, b_low, b_high, m) = cifar101_accuracy(model, "original"), cifar101_accuracy(model, part)
    low = a - b - float(np.hypot(a - a_low, b_high - b))
    high = a - b + float(np.hypot(a_high - a, b - b_low))
    return a - b, low, high, min(n, m)


def cifar101_difference(model: str, other: str, part: str) -> Result:
    """Accuracy of `model` less that of `other` on the same images; the normal interval of the paired difference."""
    stored = predictions()
    names, labels = stored["models"].tolist(), stored[f"labels_{part}"]
    right = [(stored[f"pred_{part}"][names.index(name)] == labels).astype(float) for name in (model, other)]
    apart = right[0] - right[1]
    mean, half = float(apart.mean()), 1.959964 * float(apart.std(ddof=1)) / len(apart) ** 0.5
    return mean, mean - half, mean + half, len(apart)


def cifar101_fit(part: str, which: str) -> Result:
    """Slope or intercept (in points) of the least-squares line of new on original accuracy over the 30 models.

    The interval is the 2.5 and 97.5 % quantile over 10,000 bootstrap samples of models.
    """
    models = predictions()["models"].tolist()
    x, y = (np.array([100 * cifar101_accuracy(name, side)[0] for name in models]) for side in ("original", part))
    order = 0 if which == "slope" else 1
    drawn = np.random.default_rng(0).integers(0, len(x), (10_000, len(x)))
    low, high = np.quantile(_line(x[drawn], y[drawn])[order], [0.025, 0.975])
    return float(_line(x[None], y[None])[order][0]), float(low), float(high), len(x)


def _line(x: Float64, y: Float64) -> tuple[Float64, Float64]:
    """Slopes and intercepts of least-squares lines, one a row."""
    dx, dy = x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)
    slope = (dx * dy).sum(1) / (dx**2).sum(1)
    return slope, y.mean(1) - slope * x.mean(1)


@lru_cache(maxsize=1)
def _cifar_duplicates() -> tuple[int, int]:
    from testbed.data.arrays import Cifar10Jpeg
    from testbed.data.audit import near_duplicates

    data = Cifar10Jpeg()
    test = data.load("test").x
    return len(near_duplicates(test, data.load("train").x)), len(test)


def cifar10_duplicates() -> Result:
    """Share of CIFAR-10 test images (from the JPEG copy) with a near-duplicate among the training images."""
    return share(*_cifar_duplicates())


def alexnet_mce() -> Result:
    """mCE of AlexNet from its own errors, in percent: 100 by definition, so it checks the table that mCE divides by.

    >>> round(alexnet_mce()[0], 6)
    100.0
    """
    return _mce({name: [error] for name, error in ALEXNET.items()})


def imagenet_c_mce(name: str) -> Result:
    """mCE in percent of a network from its errors in imagenet-c/NAME.csv (columns corruption, severity, error)."""
    path = data_file(f"imagenet-c/{name}.csv", "imagenet-c")
    errors: dict[str, dict[str, float]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for line, record in enumerate(csv.DictReader(file), start=2):
            try:
                errors.setdefault(record["corruption"], {})[record["severity"]] = float(record["error"])
            except (KeyError, TypeError, ValueError):
                raise DataError(f"{path}:{line}: expected corruption, severity, error; got {record}") from None
    short = sorted(c for c in ALEXNET if sorted(errors.get(c, {})) != list("12345"))
    if short:
        raise DataError(f"{path}: mCE needs the severities 1 to 5 of each corruption; not so: {', '.join(short)}")
    try:
        return _mce({corruption: list(found.values()) for corruption, found in errors.items()})
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _mce(errors: Mapping[str, list[float]]) -> Result:
    value = 100 * mean_corruption_error(errors)
    return value, value, value, len(ALEXNET)


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "cifar101_accuracy": cifar101_accuracy,
    "cifar101_gap": cifar101_gap,
    "cifar101_difference": cifar101_difference,
    "cifar101_fit": cifar101_fit,
    "cifar10_duplicates": cifar10_duplicates,
    "alexnet_mce": alexnet_mce,
    "imagenet_c_mce": imagenet_c_mce,
}
