"""Corruption, perturbation-stability and effective-robustness metrics: pure arithmetic on errors, predictions and
ranks.

Corruption error (Hendrycks and Dietterich 2019, section 4.3): with E(s, c) the top-1 error at severity s of
corruption c,
    CE_c  = sum_s E(s, c) / sum_s E_AlexNet(s, c),  mCE = mean of the 15 CE
    relative CE_c = sum_s (E(s, c) - E_clean) / sum_s (E_AlexNet(s, c) - E_AlexNet,clean)
mCE is for ImageNet-C alone; for CIFAR-10-C the field reports the plain mean error, over 15 or 19 corruptions. All are
fractions here: papers print them times 100.

Perturbation stability (section 4.4): over the frames x_1..x_m of a sequence,
    flip probability FP = mean_j 1[f(x_j) != f(x_j-1)], against x_1 instead of x_j-1 for noise sequences
    top-5 distance d = sum_{i<=5} |C(i) - C(sigma(i))|, C(1..5) = 0..4 and C(i>5) = 5, sigma(i) the new rank of rank i
    mFP = mean over perturbations; mFR, mT5D = the mean of each divided by AlexNet's

Effective robustness (Taori et al. 2020, arXiv 2007.00644): accuracy out of distribution above what a line, fitted to
baseline models on logit (or probit) axes, foretells from the accuracy in distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from testbed.metrics.options import one_of
from testbed.parameters import Checked

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Mean top-1 error of AlexNet over the five severities of each ImageNet-C corruption.
ALEXNET: Final[Mapping[str, float]] = {
    "gaussian_noise": 0.886428, "shot_noise": 0.894468, "impulse_noise": 0.922640, "defocus_blur": 0.819880,
    "glass_blur": 0.826268, "motion_blur": 0.785948, "zoom_blur": 0.798360, "snow": 0.866816, "frost": 0.826572,
    "fog": 0.819324, "brightness": 0.564592, "contrast": 0.853204, "elastic_transform": 0.646056,
    "pixelate": 0.717840, "jpeg_compression": 0.606500,
}  # fmt: skip

#: The four that were held out of the benchmark; CIFAR-10-C results say whether they are in.
EXTRA: Final = ("speckle_noise", "gaussian_blur", "saturate", "spatter")

#: The perturbations that mFP averages over.
SEQUENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "cifar": (
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "spatter", "brightness", "translate", "rotate",
        "tilt", "scale",
    ),
    "imagenet": (
        "gaussian_noise", "shot_noise", "motion_blur", "zoom_blur", "snow", "brightness", "translate", "rotate",
        "tilt", "scale",
    ),
}  # fmt: skip


def corruption_error(errors: ArrayLike, baseline: float) -> float:
    """CE of one corruption: mean error over the severities by the baseline's mean error.

    >>> round(corruption_error([0.4, 0.5, 0.6, 0.7, 0.8], 0.8), 3)
    0.75
    """
    values = _fractions(errors, "errors")
    return float(values.mean() / baseline)


def mean_corruption_error(errors: Mapping[str, ArrayLike], baseline: Mapping[str, float] = ALEXNET) -> float:
    """mCE: mean CE over the corruptions of `baseline`, each of which must be there; others are not counted.

    >>> round(mean_corruption_error({name: [error] * 5 for name, error in ALEXNET.items()}), 6)
    1.0
    """
    _complete(errors, baseline)
    return float(np.mean([corruption_error(errors[name], value) for name, value in baseline.items()]))


def relative_mean_corruption_error(
    errors: Mapping[str, ArrayLike], clean: float, baseline_clean: float, baseline: Mapping[str, float] = ALEXNET
) -> float:
    """Relative mCE: how much worse than clean, by how much worse the baseline gets; both cleans are errors.

    >>> errors = {name: [error] * 5 for name, error in ALEXNET.items()}
    >>> round(relative_mean_corruption_error(errors, clean=0.4, baseline_clean=0.4), 6)
    1.0
    """
    _complete(errors, baseline)
    ratios = [(_fractions(errors[n], n).mean() - clean) / (value - baseline_clean) for n, value in baseline.items()]
    return float(np.mean(ratios))


def mean_error(errors: Mapping[str, ArrayLike], *, which: Literal[15, 19] = 15) -> float:
    """CIFAR-10-C's number: plain mean error over severities and 15 (or all 19) corruptions.

    >>> mean_error({name: [0.1, 0.3] for name in ALEXNET}, which=15)
    0.2
    """
    one_of(which, Literal[15, 19], "mean_error: which")
    wanted = (*ALEXNET, *EXTRA) if which == 19 else tuple(ALEXNET)
    _complete(errors, wanted)
    return round(float(np.mean([_fractions(errors[name], name).mean() for name in wanted])), 12)


def worst_corruption(errors: Mapping[str, ArrayLike]) -> tuple[str, float]:
    """The corruption with the largest mean error, and that error.

    >>> worst_corruption({"fog": [0.1, 0.2], "snow": [0.4, 0.2]})
    ('snow', 0.3)
    """
    means = {name: float(_fractions(values, name).mean()) for name, values in errors.items()}
    name = max(means, key=lambda n: means[n])
    return name, round(means[name], 12)


def worst_group_accuracy(correct: ArrayLike, groups: ArrayLike) -> tuple[int, float]:
    """The group with the lowest accuracy, and that accuracy. `correct` bool `[n]`, `groups` integers `[n]`.

    >>> worst_group_accuracy([True, False, True, True], [0, 0, 1, 1])
    (0, 0.5)
    """
    right, names = np.asarray(correct, np.float64), np.asarray(groups)
    if right.shape != names.shape or right.ndim != 1 or not len(right):
        raise ValueError(f"expected one group an example and at least one example; got {right.shape} and {names.shape}")
    means = {int(g): float(right[names == g].mean()) for g in np.unique(names)}
    worst = min(means, key=lambda g: means[g])
    return worst, means[worst]


def flip_probability(predictions: ArrayLike, *, noise: bool = False, difficulty: int = 1) -> float:
    """FP of one perturbation. `predictions` integers `[sequences frames]`.

    noise       compare with the first frame, not with the one before
    difficulty  k compares frames k apart, over the k interleaved chains (not for noise)

    >>> flip_probability([[1, 1, 2, 2, 1]]), flip_probability([[1, 1, 2, 2, 1]], noise=True)
    (0.5, 0.5)
    """
    return float(flips_by_sequence(predictions, noise=noise, difficulty=difficulty).mean())


def flips_by_sequence(predictions: ArrayLike, *, noise: bool = False, difficulty: int = 1) -> Floats:
    """The share of flips in each sequence, float64 `[sequences]`; arguments as `flip_probability`."""
    labels = _sequences(predictions, difficulty)
    before = labels[:, :1] if noise else labels[:, :-difficulty]
    return np.asarray((labels[:, 1 if noise else difficulty :] != before).mean(axis=1))


def mean_flip_probability(flips: Mapping[str, float], which: Literal["cifar", "imagenet"] = "cifar") -> float:
    """mFP: plain mean of the ten perturbations' flip probabilities.

    >>> round(mean_flip_probability({name: 0.02 for name in SEQUENCES["cifar"]}), 6)
    0.02
    """
    one_of(which, Literal["cifar", "imagenet"], "mean_flip_probability: which")
    _complete(flips, SEQUENCES[which])
    return float(np.mean([flips[name] for name in SEQUENCES[which]]))


def mean_rate(values: Mapping[str, float], baseline: Mapping[str, float]) -> float:
    """mFR from flip probabilities, mT5D from top-5 distances: mean ratio to a baseline model (by custom AlexNet).

    >>> round(mean_rate({"fog": 0.1, "snow": 0.3}, {"fog": 0.2, "snow": 0.2}), 6)
    1.0
    """
    _complete(values, baseline)
    return float(np.mean([values[name] / baseline[name] for name in baseline]))


def top5_distance(logits: ArrayLike, *, noise: bool = False, difficulty: int = 1) -> float:
    """T5D of one perturbation: mean distance of the top-5 lists of frames. logits `[sequences frames k]`.

    >>> top5_distance([[[5.0, 4, 3, 2, 1, 0], [4.0, 5, 3, 2, 1, 0]]])  # first and second change places
    2.0
    """
    return float(top5_by_sequence(logits, noise=noise, difficulty=difficulty).mean())


def top5_by_sequence(logits: ArrayLike, *, noise: bool = False, difficulty: int = 1) -> Floats:
    """The mean distance of top-5 lists in each sequence, float64 `[sequences]`; arguments as `top5_distance`."""
    return _rank_distance(logits, noise, difficulty, _top5)


def zipf_distance(logits: ArrayLike, *, noise: bool = False, difficulty: int = 1) -> float:
    """The Zipf-weighted variant: sum_i |1/i - 1/sigma(i)| / i over all ranks.

    >>> zipf_distance([[[2.0, 1.0], [1.0, 2.0]]])  # |1 - 1/2| + |1/2 - 1| / 2
    0.75
    """
    return float(_rank_distance(logits, noise, difficulty, _zipf).mean())


def _rank_distance(logits: ArrayLike, noise: bool, difficulty: int, distance: Callable[[Ints], Floats]) -> Floats:
    scores = np.asarray(logits, np.float64)
    if scores.ndim != 3:
        raise ValueError(f"expected logits [sequences frames classes], got shape {list(scores.shape)}")
    _sequences(scores[:, :, 0], difficulty)
    order = np.argsort(-scores, axis=2, kind="stable")
    ranks = np.argsort(order, axis=2, kind="stable")
    step = 1 if noise else difficulty
    before = order[:, :1] if noise else order[:, :-step]
    sigma = np.take_along_axis(ranks[:, step:], np.broadcast_to(before, ranks[:, step:].shape), axis=2)
    return np.asarray(distance(sigma).mean(axis=1))


def _top5(sigma: Ints) -> Floats:
    place = np.arange(min(5, sigma.shape[2]))
    return np.asarray(np.abs(place - np.minimum(sigma[:, :, : len(place)], 5)).sum(axis=2), np.float64)


def _zipf(sigma: Ints) -> Floats:
    weight = 1 / (np.arange(sigma.shape[2]) + 1)
    return np.asarray((np.abs(weight - 1 / (sigma + 1)) * weight).sum(axis=2))


@dataclass(frozen=True)
class RobustnessLine(Checked):
    """The line that baseline models lie on: transform(ood) = slope transform(id) + intercept."""

    slope: float
    intercept: float
    axes: Literal["logit", "probit"] = "logit"

    def expected(self, accuracy: ArrayLike) -> Floats:
        """The accuracy out of distribution that this accuracy in distribution foretells."""
        forth, back = _axes(self.axes)
        return np.asarray(back(self.slope * forth(_open(accuracy)) + self.intercept))

    def effective_robustness(self, accuracy: ArrayLike, shifted: ArrayLike) -> Floats:
        """`shifted` accuracy above the expected one."""
        return np.asarray(np.asarray(shifted, np.float64) - self.expected(accuracy))


def fit_robustness_line(
    accuracy: Sequence[float], shifted: Sequence[float], axes: Literal["logit", "probit"] = "logit"
) -> RobustnessLine:
    """Least squares over baseline models' accuracies, two of them at least.

    >>> line = fit_robustness_line([0.5, 0.7, 0.9], [0.4, 0.6, 0.85])
    >>> round(float(line.effective_robustness(0.8, 0.75)), 3)
    0.031
    """
    if len(accuracy) != len(shifted) or len(accuracy) < 2:
        raise ValueError(f"a line needs both accuracies of two models or more; got {len(accuracy)}, {len(shifted)}")
    forth, _ = _axes(axes)
    slope, intercept = np.polyfit(forth(_open(accuracy)), forth(_open(shifted)), 1)
    return RobustnessLine(float(slope), float(intercept), axes)


def relative_robustness(shifted: float, baseline_shifted: float) -> float:
    """Accuracy under shift above the baseline model's.

    >>> relative_robustness(0.75, 0.5)
    0.25
    """
    return shifted - baseline_shifted


def _axes(name: str) -> tuple[np.ufunc, np.ufunc]:
    from scipy import special

    one_of(name, Literal["logit", "probit"], "robustness line: axes")
    return (special.logit, special.expit) if name == "logit" else (special.ndtri, special.ndtr)


def _open(accuracy: ArrayLike) -> Floats:
    values = np.asarray(accuracy, np.float64)
    if not ((values > 0) & (values < 1)).all():
        raise ValueError(f"accuracies must lie strictly between 0 and 1 for logit and probit axes; got {accuracy!r}")
    return values


def _fractions(errors: ArrayLike, name: str) -> Floats:
    values = np.asarray(errors, np.float64).reshape(-1)
    if not len(values) or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"{name}: expected error fractions in [0, 1], got {errors!r}")
    return values


def _complete(given: Mapping[str, object], wanted: Sequence[str] | Mapping[str, object]) -> None:
    missing = [name for name in wanted if name not in given]
    if missing:
        raise ValueError(f"the mean needs every one of {len(wanted)}; missing: {', '.join(missing)}")


def _sequences(predictions: ArrayLike, difficulty: int) -> NDArray[np.generic]:
    labels = np.asarray(predictions)
    if labels.ndim != 2 or difficulty < 1 or labels.shape[1] <= difficulty:
        wanted = "[sequences frames] with more frames than the difficulty (1 or more)"
        raise ValueError(f"expected predictions {wanted}; got shape {list(labels.shape)}, difficulty {difficulty}")
    return labels
