"""How often the 95 % intervals hold the value of the population, and how wide they are: a Markdown table.

    python benchmarks/coverage_intervals.py                    every metric, 400 simulated sets a cell, some ten minutes
    python benchmarks/coverage_intervals.py --only ece mce --sets 200 --sizes 50 300

Truth is in closed form where there is one, else the same statistic of 1,000,000 examples, for calibration with labels
replaced by their true probabilities, so that it has no noise of labels and no bias of binning. Sizes are examples (ID
and OOD each, unless the law says otherwise). A cell says coverage and mean width; a coverage of .95 has a standard
error of .011 at 400 sets. Mean widths stand beside it, because no interval is good that covers by saying nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
from scipy.stats import norm

from testbed.calibration.conformal import Conformal
from testbed.metrics import binning, delong, failure, sets
from testbed.metrics.bootstrap import Draws
from testbed.metrics.bounded import mean_interval
from testbed.metrics.calibration_error import AdaptiveEce, ClasswiseEce, Ece, Mce, binned_gap
from testbed.metrics.conditional import MarginalEce, TopLabelEce, _within_predictions
from testbed.metrics.cumulative import KsError, KuiperError, _walk
from testbed.metrics.debiased import DebiasedEce
from testbed.metrics.decomposition import BrierCalibration, BrierRefinement
from testbed.metrics.estimate import Estimate
from testbed.metrics.estimated_accuracy import (
    AverageConfidence,
    AverageConfidenceError,
    DifferenceOfConfidences,
    Disagreement,
    DisagreementError,
    Labelled,
    ThresholdedConfidence,
)  # fmt: skip
from testbed.metrics.failure import AUGRC, AURC, EAURC
from testbed.metrics.groups import WorstGroupAccuracy
from testbed.metrics.ood import AUROC, AUPRIn, AUPROut, FPRAtTPR, aupr
from testbed.metrics.openset import AUTC, autc
from testbed.metrics.robustness import curve_area
from testbed.metrics.scores import Accuracy, Brier, Nll, Rbs
from testbed.metrics.selective import CoverageAtRisk, coverage_at_risk
from testbed.metrics.smooth import SmoothEce, _spread, solve
from testbed.metrics.tested import Skce
from testbed.metrics.unified import OSCR, AURCWithOOD

SIZES = (50, 300, 2000)
MANY = 1_000_000
REPLICATES = 200

Generator = np.random.Generator
Interval = tuple[float, float]


@dataclass(frozen=True)
class Case:
    """One row: what a set of n is, how its interval is made, and what that should hold (a number or by n)."""

    metric: str
    law: str
    draw: Callable[[Generator, int], tuple[Any, ...]]
    measure: Callable[..., Estimate | Interval]
    truth: float | Callable[[int], float]


@dataclass(frozen=True)
class Model:
    """Probabilities of k classes from logits with spread `scale`, said `sharp` times too sure of itself."""

    k: int = 10
    scale: float = 2.0
    sharp: float = 1.0

    def draw(self, rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Said probabilities `[n, k]`, labels `[n]`, true probabilities `[n, k]`."""
        z = rng.normal(size=(n, self.k)) * self.scale
        true = softmax(z)
        labels = np.minimum((true.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), self.k - 1)
        return (true if self.sharp == 1 else softmax(self.sharp * z)), labels, true


MODELS = {
    "calibrated, 10 classes": Model(),
    "calibrated, accuracy .98": Model(10, 12.0),
    "over-confident, 10 classes": Model(10, 1.2, 2.0),
    "calibrated, 2 classes": Model(2, 2.0),
    "over-confident, 2 classes": Model(2, 1.0, 2.0),
}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(e / e.sum(axis=1, keepdims=True))


@lru_cache(maxsize=1)
def population(law: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return MODELS[law].draw(np.random.default_rng(99), MANY)


@lru_cache
def expected(law: str, metric: str, n: int = MANY) -> float:
    """A metric of the population with labels replaced by their probabilities."""
    p, y, true = population(law)
    top = p.argmax(axis=1)
    c, q = p[np.arange(MANY), top], true[np.arange(MANY), top]
    equal = lambda bins: binning.equal_width(c, bins)
    if metric in ("ece", "adaptive_ece", "debiased l1"):
        return binned_gap(c - q, equal(15) if metric == "ece" else binning.equal_mass(c, 15))
    if metric in ("debiased l2", "marginal_ece"):
        columns = [(c, q)] if metric == "debiased l2" else [(p[:, j], true[:, j]) for j in range(p.shape[1])]
        return float(np.sqrt(np.mean([squared(a, b) for a, b in columns])))
    if metric == "classwise_ece":
        gaps = [binned_gap(a - b, binning.equal_width(a, 15, "netcal")) for a, b in zip(p.T.copy(), true.T.copy())]
        return float(np.mean(gaps))
    if metric == "top_label_ece":
        return binned_gap(c - q, _within_predictions(p, y, 15)[1])
    if metric == "mce":
        index = equal(15)
        count = np.bincount(index, minlength=15)
        kept = count > 1e-3 * MANY  # rarer bins are empty in most sets: they are said not to be covered
        return float((np.abs(np.bincount(index, c - q, 15))[kept] / count[kept]).max())
    if metric in ("ks_error", "kuiper_error"):
        walk = _walk(c, q)
        return float(np.abs(walk).max() if metric == "ks_error" else max(walk.max(), 0) - min(walk.min(), 0))
    if metric == "smooth_ece":
        return solve(_spread(c) @ (q - c) / MANY)[0]
    if metric == "nll":
        return float(-(true * np.log(np.maximum(p, 2.2e-16))).sum(axis=1).mean())
    brier = float(((p**2).sum(axis=1) - 2 * (p * true).sum(axis=1) + 1).mean())
    return {"brier": brier, "rbs": brier**0.5, "accuracy": float(q.mean())}[metric]


def squared(column: np.ndarray, true: np.ndarray) -> float:
    """Share-weighted mean of the squared gaps of fifteen bins of equal mass."""
    index = binning.equal_mass(column, 15)
    count = np.maximum(np.bincount(index), 1)
    return float((np.bincount(index, column - true) ** 2 / count).sum() / len(column))


def probability_cases() -> Iterator[Case]:
    metrics: dict[str, Any] = {
        "ece": Ece(), "adaptive_ece": AdaptiveEce(), "classwise_ece": ClasswiseEce(), "top_label_ece": TopLabelEce(),
        "debiased l1": DebiasedEce(norm="l1"), "debiased l2": DebiasedEce(), "marginal_ece": MarginalEce(),
        "smooth_ece": SmoothEce(), "mce": Mce(), "ks_error": KsError(), "kuiper_error": KuiperError(),
        "nll": Nll(), "brier": Brier(), "rbs": Rbs(), "accuracy": Accuracy(),
    }  # fmt: skip
    for law, model in MODELS.items():
        for name, metric in metrics.items():
            yield Case(name, law, labelled(model), plain(metric), partial(expected, law, name))


def labelled(model: Model) -> Callable[[Generator, int], tuple[Any, ...]]:
    return lambda rng, n: model.draw(rng, n)[:2]


def plain(metric: Any) -> Callable[..., Estimate]:
    """A metric of (first, second, ...) without draws that matter."""
    return lambda *given: metric(*given, draws=Draws(0, len(given[0]), REPLICATES))


def split_cases() -> Iterator[Case]:
    """CORP's split of the Brier score with two classes, where the best monotone curve is the true probability; SKCE."""
    for sharp in (1.0, 2.0):
        model, law = Model(2, 1.0, sharp), f"two classes, {sharp:g} x too sharp"
        p, _, true = model.draw(np.random.default_rng(99), MANY)
        lost, left = float(((p - true) ** 2).sum(axis=1).mean()), float((1 - (true**2).sum(axis=1)).mean())
        yield Case("brier_calibration", law, labelled(model), plain(BrierCalibration()), lost)
        yield Case("brier_refinement", law, labelled(model), plain(BrierRefinement()), left)
    skce = Skce(nu=1.0, limit=5000)
    model = MODELS["over-confident, 2 classes"]
    several = [plain(skce)(*labelled(model)(np.random.default_rng(seed), 3000)).value for seed in range(12)]
    yield Case("skce", "over-confident, 2 classes", labelled(model), plain(skce), float(np.mean(several)))
    law = "calibrated, 10 classes"
    yield Case("skce", law, labelled(MODELS[law]), plain(skce), 0.0)


def failure_cases() -> Iterator[Case]:
    metrics = {"aurc": AURC(), "eaurc": EAURC(), "augrc": AUGRC()}
    laws = {"accuracy .5": (1, 1), "accuracy .9": (9, 1), "accuracy .99": (99, 1), "accuracy .1": (1, 9)}
    for law, (a, b) in laws.items():
        draw = partial(ranked, a, b)
        big = draw(np.random.default_rng(9), MANY)
        for name, metric in metrics.items():
            yield Case(name, law, draw, plain(metric), failure.MEASURES[metric.measure](*big))
        for risk in (0.05, 0.1) if b == 1 else ():
            at = coverage_at_risk(*big, risk=risk)
            yield Case(f"coverage at risk {risk:g}", law, draw, plain(CoverageAtRisk(risk)), at)


def ranked(a: float, b: float, rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Confidences of a beta law and calibrated correctness."""
    c = rng.beta(a, b, n)
    return c, rng.random(n) < c


def separated(gap: float, few: int | None, rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal ID scores and OOD scores `gap` above them, n or `few`."""
    return rng.normal(size=n), rng.normal(size=few or n) + gap


def judged(gap: float, rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`separated`, and whether ID predictions are right, less often at high scores."""
    first, second = separated(gap, None, rng, n)
    return first, second, rng.random(n) < norm.cdf(1.5 - first)


def bounded_scores(rng: Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = rng.random(n) ** 3, 1 - rng.random(n) ** 3
    first[:1], second[:1] = 0.0, 1.0
    return first, second


def detection_cases() -> Iterator[Case]:
    for gap in (0.5, 1.5, 2.33, 3.3, 4.0):
        area, rate = float(norm.cdf(gap / 2**0.5)), float(norm.sf(norm.ppf(0.05) + gap))
        law, draw = f"normal, AUROC {area:.3f}", partial(separated, gap, None)
        for side, given in (("", draw), (", 50 OOD", partial(separated, gap, 50))):
            yield Case("auroc", law + side, given, plain(AUROC()), area)
            yield Case("fpr95", law + side, given, plain(FPRAtTPR()), rate)
        first, second, right = judged(gap, np.random.default_rng(9), MANY)
        yield Case("aupr_out", law, draw, plain(AUPROut()), aupr(first, second))
        yield Case("aupr_in", law, draw, plain(AUPRIn()), aupr(first, second, "id"))
        answered = float((right * delong.components(first, second).id).mean())
        joint = failure.aurc(-np.concatenate([first, second]), np.concatenate([right, np.zeros(MANY)]))
        yield Case("oscr", law, partial(judged, gap), plain(OSCR()), answered)
        yield Case("aurc_ood", law, partial(judged, gap), plain(AURCWithOOD()), joint)
    area = autc(*bounded_scores(np.random.default_rng(9), MANY))
    yield Case("autc", "scores in [0, 1], ends reached", bounded_scores, plain(AUTC()), area)


def hits(rate: Callable[[int], float], columns: int, rng: Generator, n: int) -> tuple[np.ndarray, ...]:
    """Independent columns of 0/1 with this rate of ones."""
    return tuple((rng.random(n) < rate(n)).astype(int) for _ in range(columns))


def certain(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that say class 0, and labels that agree where `right` is 1."""
    return np.tile([0.9, 0.1], (len(right), 1)), 1 - right


def fall(right: np.ndarray) -> Estimate:
    """The area under a curve that falls at the second of two budgets for those that are not `right`."""
    return curve_area(np.array([0.1, 0.2]), np.stack([right < 0, right == 0]), np.zeros(len(right), bool))


def share_cases() -> Iterator[Case]:
    draws = lambda n: Draws(0, n, REPLICATES)
    for law in ("accuracy .5", "accuracy .9", "accuracy .99", "accuracy 1 - .175 / n"):
        rate = partial(rate_of, law)
        one, two = partial(hits, rate, 1), partial(hits, rate, 2)
        yield Case("accuracy", law, one, lambda h: plain(Accuracy())(*certain(h)), rate)
        yield Case("set coverage", law, one, lambda h: sets.coverage(np.stack([h > 0, h < 0], axis=1), 0 * h), rate)
        yield Case("worst group of 10", law, one,
                   lambda h: plain(WorstGroupAccuracy())(*certain(h), np.arange(len(h)) % 10), rate)  # fmt: skip
        yield Case("gde", law, one, lambda h: Disagreement()(*certain(h), draws=draws(len(h)), mate=1 - h), rate)
        yield Case("gde_error", law, two,
                   lambda h, g: DisagreementError()(*certain(h), draws=draws(len(h)), mate=1 - g), 0.0)  # fmt: skip
        yield Case("curve area", law, one, fall, lambda n, rate=rate: 1 - (1 - rate(n)) / 4)  # type: ignore[misc]
    for law, mean in {"uniform": 0.5, "beta(.1, 5)": 0.1 / 5.1, "one in 100 is .5": 0.005}.items():
        yield Case("bounded mean", law, partial(values, law), mean_interval, mean)


def rate_of(law: str, n: int) -> float:
    return 1 - 0.175 / n if law.endswith("n") else float(law.split()[1])


def values(law: str, rng: Generator, n: int) -> tuple[np.ndarray]:
    if law == "uniform":
        return (rng.random(n),)
    return (rng.beta(0.1, 5, n) if law.startswith("beta") else 0.5 * (rng.random(n) < 0.01),)


def estimated_cases() -> Iterator[Case]:
    for law in ("calibrated, 10 classes", "calibrated, accuracy .98", "over-confident, 10 classes"):
        model = MODELS[law]
        p, _, true = population(law)
        said, right = float(p.max(axis=1).mean()), float(true[np.arange(MANY), p.argmax(axis=1)].mean())
        for name, metric, truth in (
            ("ac", AverageConfidence(), said), ("ac_error", AverageConfidenceError(), said - right),
            ("doc", DifferenceOfConfidences(), right), ("atc", ThresholdedConfidence(), right),
        ):  # fmt: skip
            yield Case(name, law, partial(transferred, model), partial(told, metric), truth)
        asked = Conformal(score="lac", alpha=0.1).fit(*labelled(model)(np.random.default_rng(5), 5000))
        size = float(asked.sets(p[:200_000]).sum(axis=1).mean())
        yield Case("set size", law, labelled(model), lambda a, y, c=asked: sets.set_size(c.sets(a), y), size)  # type: ignore[misc]


def transferred(model: Model, rng: Generator, n: int) -> tuple[np.ndarray, ...]:
    return (*labelled(model)(rng, n), *labelled(model)(rng, n))


def told(metric: Any, p: np.ndarray, y: np.ndarray, q: np.ndarray, t: np.ndarray) -> Estimate:
    """An estimator of accuracy with source outputs of the same law."""
    ids = np.arange(len(y))
    found: Estimate = metric(p, y, draws=Draws(0, len(y), REPLICATES), source=Labelled(q, t, ids), ids=ids)
    return found


GROUPS = (probability_cases, split_cases, failure_cases, detection_cases, share_cases, estimated_cases)


def cover(case: Case, n: int, count: int, seed: int = 0) -> tuple[float, float]:
    """Share of `count` simulated intervals that hold the truth, and their mean width."""
    rng = np.random.default_rng([seed, n])
    truth = case.truth(n) if callable(case.truth) else case.truth
    held, width = 0, 0.0
    for _ in range(count):
        found = case.measure(*case.draw(rng, n))
        low, high = (found.low, found.high) if isinstance(found, Estimate) else found
        held += low - 1e-9 <= truth <= high + 1e-9
        width += high - low
    return held / count, width / count


def cases(only: list[str] | None = None) -> Iterator[Case]:
    """All rows, or those of the metrics named."""
    for group in GROUPS:
        yield from (case for case in group() if not only or case.metric in only)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    asked = parser.parse_args()
    start = time.process_time()
    print("| metric | law | " + " | ".join(f"n = {n:,}" for n in asked.sizes) + " |")
    print("| --- " * (2 + len(asked.sizes)) + "|")
    for case in cases(asked.only):
        found = [cover(case, n, asked.sets) for n in asked.sizes]
        cells = [f"{'**' if c < 0.93 else ''}{c:.3f}{'**' if c < 0.93 else ''} / {w:.3g}" for c, w in found]
        print(f"| {case.metric} | {case.law} | {' | '.join(cells)} |", flush=True)
    print(f"\n{asked.sets} sets a cell, {time.process_time() - start:.0f} CPU seconds; below .93 in bold")


if __name__ == "__main__":
    main()
