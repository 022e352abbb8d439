"""Drift detectors on a stream's outputs, and how good an alarm each of them makes.

Every `every` steps the last `window` uncalibrated probabilities are tested against those of calibration examples:

    ks          two-sample Kolmogorov-Smirnov test on each class's probability, Bonferroni over classes (BBSDs)
    bbsd        chi-squared test of the predicted classes, rare ones together (BBSDh)
    mmd         maximum mean discrepancy of the probabilities, permutation p-value
    confidence  two-sample Kolmogorov-Smirnov test on the largest probability alone

An episode is a run of steps that the schedule calls drifted. The delay of a detector is from the episode's first step
to its first alarm at a step of the episode; without one the episode is missed. A false alarm is one in a window that
holds no drifted step; the rate is over such windows. Each test has the level by itself: over a long stream false
alarms come at about that rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from testbed.metrics.bounded import clopper_pearson
from testbed.metrics.cumulative import Outcome
from testbed.metrics.drift import ks_drift, label_drift, mmd_drift
from testbed.monitoring.settings import DriftSettings
from testbed.types import Array, Float64

Test = Callable[[Float64, Float64], Outcome]

#: Name -> (test, its convention).
DETECTORS: Final[Mapping[str, str]] = {
    "ks": "KS on each class's probability, Bonferroni",
    "bbsd": "chi-squared of predicted classes, rare ones together",
    "mmd": "MMD of probabilities, Gaussian kernel of median width, permutations",
    "confidence": "KS on the largest probability",
}


def tests(asked: DriftSettings, seed: int) -> dict[str, Test]:
    """The tests by name."""
    known: dict[str, Test] = {
        "ks": ks_drift,
        "bbsd": label_drift,
        "mmd": lambda a, b: mmd_drift(a, b, permutations=asked.permutations, seed=seed),
        "confidence": lambda a, b: ks_drift(a.max(axis=1, keepdims=True), b.max(axis=1, keepdims=True)),
    }
    return {name: known[name] for name in asked.detectors}


@dataclass
class Record:
    """What is remembered of a detector: the episode it is in, and its counts."""

    detected: bool = False
    delays: list[float] = field(default_factory=lambda: [0.0, 0.0])
    episodes: int = 0
    clean: int = 0
    false: int = 0


class Watch:
    """The detectors over a stream. `reference` float64 `[m, k]` are probabilities before deployment."""

    def __init__(self, reference: Float64, asked: DriftSettings, seed: int) -> None:
        self.asked, self.reference = asked, reference
        self.tests = tests(asked, seed)
        self.records = {name: Record() for name in self.tests}
        self._ring = np.zeros((asked.window, reference.shape[1]))
        self._drifted = np.zeros(asked.window, bool)
        self._seen, self._since = 0, -1

    def add(self, probs: Float64, drifted: Array) -> Iterator[dict[str, Any]]:
        """The next outputs `[n, k]` and whether each step is drifted; rows of episodes that ended and of tests due."""
        start = self._seen
        yield from self._episodes(drifted, start)
        place = (start + np.arange(len(probs))) % self.asked.window
        self._ring[place], self._drifted[place] = probs, drifted
        self._seen += len(probs)
        due = self._seen // self.asked.every > start // self.asked.every
        if due and self._seen >= self.asked.window:
            for name, test in self.tests.items():
                yield from self._test(name, test)

    def close(self) -> Iterator[dict[str, Any]]:
        """End the last episode; then the summary of every detector."""
        if self._since >= 0:
            yield from self._end(self._seen)
        for name, record in self.records.items():
            yield from _summary(name, record)

    def _episodes(self, drifted: Array, start: int) -> Iterator[dict[str, Any]]:
        for at in np.flatnonzero(np.diff(np.concatenate([[self._since >= 0], drifted]).astype(np.int8))).tolist():
            if self._since >= 0:
                yield from self._end(start + at)
            else:
                self._since = start + at
                for record in self.records.values():
                    record.detected = False

    def _end(self, step: int) -> Iterator[dict[str, Any]]:
        for name, record in self.records.items():
            record.episodes += 1
            if not record.detected:
                yield _row("episode", name, "delay", float("nan"), event=f"missed: drift from step {self._since} on")
        self._since = -1

    def _test(self, name: str, test: Test) -> Iterator[dict[str, Any]]:
        record = self.records[name]
        outcome = test(self.reference, self._ring)
        alarm = bool(outcome.p_value < self.asked.level)
        said = {"alarm": alarm, "n": len(self._ring), "convention": self._says(name)}
        yield _row("drift", name, "p_value", outcome.p_value, **said)
        yield _row("drift", name, "statistic", outcome.statistic, **said)
        if not self._drifted.any():
            record.clean += 1
            record.false += alarm
        elif alarm and self._since >= 0 and not record.detected:
            record.detected = True
            delay = float(self._seen - self._since)
            record.delays = [record.delays[0] + 1, record.delays[1] + delay]
            yield _row("episode", name, "delay", delay, alarm=True, event=f"detected: drift from step {self._since} on")

    def _says(self, name: str) -> str:
        asked = self.asked
        sizes = f"{asked.window} outputs against {len(self.reference)}"
        spelled = f"{DETECTORS[name]}; {sizes}, alarm below {asked.level:g}"
        return f"{spelled}, {asked.permutations} permutations" if name == "mmd" else spelled


def _summary(name: str, record: Record) -> Iterator[dict[str, Any]]:
    found, total = record.delays
    if record.episodes:
        low, high = clopper_pearson(found, record.episodes)
        yield _row("detector", name, "detected", found / record.episodes, low, high, n=record.episodes,
                   convention="share of episodes; clopper-pearson 95%")  # fmt: skip
    if found:
        yield _row("detector", name, "mean_delay", total / found, n=int(found), convention="steps, detected episodes")
    if record.clean:
        low, high = clopper_pearson(record.false, record.clean)
        yield _row("detector", name, "false_alarm_rate", record.false / record.clean, low, high, n=record.clean,
                   convention="share of windows without drift; clopper-pearson 95%")  # fmt: skip


def _row(scope: str, detector: str, metric: str, value: float, *ends: float, **more: Any) -> dict[str, Any]:
    low, high = ends or (None, None)
    named = {"scope": scope, "detector": detector, "metric": metric}
    return {**named, "value": value, "ci_low": low, "ci_high": high, **more}
