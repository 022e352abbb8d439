"""One calibrator on a stream: announces, learns from labels when they arrive, goes back where it must."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.calibration.conformal import AdaptiveAlpha
from testbed.metrics.resampled import ProbabilityMetric
from testbed.metrics.rolling import Rolling
from testbed.monitoring.guard import Guard, Verdict
from testbed.monitoring.judged import Announced, Judged, Sets
from testbed.monitoring.settings import ReplaySettings
from testbed.types import Array, Float64, Ints, Outputs


@dataclass(frozen=True)
class Told:
    """What waits for labels: the announcement as the labels to come will judge it, and what the guard compares."""

    judged: Judged
    served: Float64 | None
    others: dict[str, Float64]
    trial: int

    def take(self, rows: slice) -> Told:
        """The examples at these positions."""
        served = None if self.served is None else self.served[rows]
        return Told(self.judged.take(rows), served, {k: v[rows] for k, v in self.others.items()}, self.trial)


class Tracked:
    """A fitted calibrator, its prediction sets and its rolling measures.

    calibration  outputs of the calibration split with labels, from which the sets take their thresholds: with every
                 update of an online calibrator anew. A static calibrator was fitted on the same split, so its split
                 coverage is that of a calibration split which was used twice; the adaptive one corrects for it.
    """

    def __init__(
        self, name: str, calibrator: Any, calibration: Outputs, asked: ReplaySettings, metric: ProbabilityMetric | None
    ) -> None:
        self.name, self.calibrator = name, calibrator
        self.online = bool(getattr(calibrator, "online", False))
        self.conformal, self.calibration = asked.conformal, calibration
        self.sets = self._sets()
        self.adaptive = AdaptiveAlpha(asked.conformal.alpha, asked.conformal.gamma)
        window, replicates = asked.rolling.window, asked.rolling.replicates
        self.rolling = Rolling(window)
        self.rolling_adaptive = Rolling(window)
        self.guard: Guard | None = None
        self.rollbacks = self.trials = 0
        if self.online and asked.rollback is not None and metric is not None:
            states = {name: calibrator.state() for name in asked.rollback.to}
            self.guard = Guard(
                asked.rollback.metric,
                metric,
                asked.rollback.window,
                states,
                asked.rollback.margin,
                max(replicates, 100),
                asked.seed,
            )

    def announce(self, outputs: Outputs) -> Announced:
        """Probabilities and sets of the next examples, before anything is known of their labels."""
        return self.sets.announce(probabilities(self.calibrator, outputs), self.adaptive.alpha)

    def told(self, announced: Announced, outputs: Outputs, labels: Ints) -> Told:
        """What to keep of an announcement until `labels` (as they will arrive) are known."""
        judged = announced.judge(labels)
        if self.guard is None:
            return Told(judged, None, {}, 0)
        states = self.guard.alternatives
        others = {k: probabilities(self.calibrator.restore(s), outputs) for k, s in states.items()}
        return Told(judged, announced.probs, others, self.guard.trial)

    def learn(self, told: Told, logits: Array, labels: Ints, ids: Ints) -> Verdict | None:
        """Labels of these examples arrived; the verdict of a trial that they complete."""
        one = told.judged
        self.rolling.add(one.confidence, one.correct, one.held, one.loss, one.size, ids)
        self.rolling_adaptive.add(one.confidence, one.correct, one.held_adaptive, size=one.size_adaptive, ids=ids)
        for held in one.held_adaptive:
            self.adaptive.update(missed=not held)
        verdict = None
        if self.online:
            self.calibrator.partial_fit(logits, labels)
        if self.guard is not None and told.served is not None:
            self.guard.add(told.served, told.others, labels, told.trial, ids)
            verdict = self._decide(self.guard) if self.guard.due else None
        if self.online:
            self.sets = self._sets()
        return verdict

    def _sets(self) -> Sets:
        """Sets whose thresholds are those of the calibrator as it is now."""
        probs, labels = probabilities(self.calibrator, self.calibration), np.asarray(self.calibration.labels)
        return Sets.fitted(probs, labels, self.conformal.score, self.conformal.alpha)

    def _decide(self, guard: Guard) -> Verdict:
        verdict = guard.decide()
        self.trials += 1
        if verdict.back_to:
            self.rollbacks += 1
            self.calibrator = self.calibrator.restore(guard.states[verdict.back_to])
        if "previous" in guard.states:
            guard.states["previous"] = self.calibrator.state()
        return verdict


def probabilities(calibrator: Any, outputs: Outputs) -> Float64:
    """float64 `[n k]` under a fitted calibrator."""
    extra = {"features": outputs.features} if "features" in getattr(calibrator, "needs", ()) else {}
    return np.asarray(calibrator.probs(outputs.logits, **extra), dtype=np.float64)
