"""Which condition each step of a stream is under: sudden, gradual, ramped and recurring change.

    sudden     the segment's condition from its first step on
    gradual    old and new mixed: the share of the new one rises linearly from 0 to 1 over the first `over` steps
    ramp       several conditions (severities, radii) one after the other, each for an equal share of the steps
    recurring  new and old in turn, `period` steps each, the new one first

"Old" is what the segment before ended in. Everything is a function of (segments, seed, step): which steps are asked for
together cannot be seen in the answer, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from testbed.seeding import Rng
from testbed.types import Array, Float64, Ints

Change = Literal["sudden", "gradual", "ramp", "recurring"]


@dataclass(frozen=True)
class Segment:
    """Some steps of a stream; `conditions` are positions in the stream's list of conditions (several: a ramp).

    wrong_labels  share of its labels that arrive wrong
    """

    conditions: tuple[int, ...]
    steps: int
    change: Change = "sudden"
    over: int = 0
    period: int = 0
    wrong_labels: float = 0.0


class Steps(NamedTuple):
    """Steps `[n]`: their segment, their condition, whether a condition but the first may occur, share of wrong labels.

    `drifted` is by the schedule, not by the draw: a step of a gradual change counts from the change's first step on.
    """

    segment: Ints
    condition: Ints
    drifted: Array
    wrong_labels: Float64

    def first_segment(self) -> Steps:
        """The steps before the segment changes."""
        n = int(np.searchsorted(self.segment, self.segment[0], side="right"))
        return Steps(self.segment[:n], self.condition[:n], self.drifted[:n], self.wrong_labels[:n])


@dataclass(frozen=True)
class Schedule:
    """Segments one after the other. Condition 0 is the reference (clean).

    >>> plan = Schedule((Segment((0,), 3), Segment((1,), 4, "recurring", period=1)))
    >>> plan.length, plan.at(1, 7).condition.tolist()
    (7, [0, 0, 1, 0, 1, 0])
    """

    segments: tuple[Segment, ...]
    seed: int = 0
    _ends: Ints = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ends", np.cumsum([s.steps for s in self.segments]).astype(np.int64))

    @property
    def length(self) -> int:
        """Number of steps."""
        return int(self._ends[-1])

    def at(self, start: int, stop: int) -> Steps:
        """The steps from `start` (included) to `stop` (excluded)."""
        steps = np.arange(start, min(stop, self.length), dtype=np.int64)
        segment = np.searchsorted(self._ends, steps, side="right").astype(np.int64)
        condition = np.zeros(len(steps), np.int64)
        drifted = np.zeros(len(steps), bool)
        for one in np.unique(segment).tolist():
            rows = np.flatnonzero(segment == one)
            first = int(self._ends[one]) - self.segments[one].steps
            condition[rows], drifted[rows] = self._inside(one, steps[rows], steps[rows] - first)
        wrong = np.array([s.wrong_labels for s in self.segments])[segment]
        return Steps(segment, condition, drifted, wrong)

    def _inside(self, index: int, steps: Ints, at: Ints) -> tuple[Ints, Array]:
        """Conditions and drift of steps `at` `[n]` counted from the segment's first one."""
        one = self.segments[index]
        old, new = self._before(index), one.conditions[-1]
        if one.change == "ramp":
            places = at * len(one.conditions) // one.steps
            condition = np.array(one.conditions, np.int64)[places]
            return condition, condition != 0
        if one.change == "recurring":
            condition = np.where(at // one.period % 2 == 0, new, old)
            return condition, condition != 0
        if one.change == "gradual":
            share = np.minimum((at + 0.5) / one.over, 1.0)
            drawn = Rng("stream", 1, self.seed, steps).uniform(name="gradual")
            condition = np.where(drawn < share, new, old)
            return condition, np.where(share < 1, (new != 0) | (old != 0), new != 0)
        return np.full(len(at), new, np.int64), np.full(len(at), new != 0)

    def _before(self, index: int) -> int:
        """The condition that the segment before ended in; the reference before the first one."""
        if index == 0:
            return 0
        last = self.segments[index - 1]
        turns = (last.steps - 1) // last.period if last.change == "recurring" else 0
        return self._before(index - 1) if turns % 2 else last.conditions[-1]


def schedule(segments: Sequence[Mapping[str, Any]], seed: int) -> Schedule:
    """The schedule of a recipe's plain segments."""
    return Schedule(tuple(Segment(**{**one, "conditions": tuple(one["conditions"])}) for one in segments), seed)
