"""When an update of an online calibrator should be rolled back.

Every example is announced by the state that serves, and beside it by the states it could go back to: `previous`, the
last one that was accepted, and `fitted`, the one fitted before deployment. All of them announced before they had seen
the label, so the comparison is fair. Once `window` labels have arrived the served announcements are compared with each
of the others (paired tests of the metric, corrected over the states; `testbed.metrics.comparison`): one that was
significantly better, and by more than `margin`, is gone back to (the best of them), else the current state is accepted
and becomes `previous`. Then the next trial begins.

An example that came several times in a trial counts once, as it was announced first: its repeats are no new evidence.
Announcements still without a label when a trial ends belong to no trial. Each trial has a 2.5 % chance of a false
rollback at most (two-sided 5 %, one side of it); over a long stream there will be some, each back to a state that was
in use before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.metrics.bootstrap import Draws
from testbed.metrics.comparison import Difference, difference, judged
from testbed.metrics.resampled import ProbabilityMetric
from testbed.types import Array, Float64, Ints

State = Mapping[str, Any]


@dataclass(frozen=True)
class Verdict:
    """The end of a trial: what to go back to ("" where the update stays), and the comparison that decided it."""

    back_to: str
    difference: Difference


@dataclass
class Guard:
    """Trials of one online calibrator. `states` are those it could go back to, by name."""

    name: str
    metric: ProbabilityMetric
    window: int
    states: dict[str, State]
    margin: float = 0.0
    replicates: int = 200
    seed: int = 0
    trial: int = field(default=0, init=False)
    _kept: list[tuple[Float64, dict[str, Float64], Ints, Ints]] = field(default_factory=list, init=False)

    @property
    def alternatives(self) -> dict[str, State]:
        """The states to compare with; in the first trial the previous one is the fitted one, and counts once."""
        first = self.trial == 0 and "fitted" in self.states
        return {name: state for name, state in self.states.items() if not (first and name == "previous")}

    def add(self, served: Array, others: Mapping[str, Array], labels: Ints, trial: int, ids: Ints) -> None:
        """Labels of these examples arrived for announcements made in that trial; those of another are left out."""
        if trial == self.trial and len(labels):
            self._kept.append((np.asarray(served), {k: np.asarray(v) for k, v in others.items()}, labels, ids))

    @property
    def due(self) -> bool:
        """Whether a trial has all its labels."""
        return sum(len(y) for _, _, y, _ in self._kept) >= self.window

    def decide(self) -> Verdict:
        """End the trial."""
        served, labels, ids = (np.concatenate([one[i] for one in self._kept]) for i in (0, 2, 3))
        once = np.sort(np.unique(ids, return_index=True)[1])
        draws = Draws(self.seed, len(once), self.replicates, "rollback")
        names = list(self._kept[0][1])
        others = [np.concatenate([one[1][name] for one in self._kept])[once] for name in names]
        found = judged(
            [difference(self.name, self.metric, "all", one, served[once], labels[once], draws) for one in others]
        )
        worse = {
            k: d for k, d in zip(names, found, strict=True) if d.verdict == "worse" and abs(d.change) > self.margin
        }
        self.trial += 1
        self._kept.clear()
        if worse:
            best = max(worse, key=lambda k: abs(worse[k].change))
            return Verdict(best, worse[best])
        return Verdict("", found[0])
