"""The replay of a stream: announce, wait for labels, learn, watch; rows come out as they are known.

A batch of examples arrives. Every calibrator announces probabilities and sets from what it knows then. The drift
detectors see the uncalibrated probabilities at once; labels arrive `label_delay` steps after their example, wrong ones
among them where the segment says so. What labels say as they arrive (rolling measures, adaptive sets, online
calibrators, rollbacks) is judged by the labels that arrived; the measures of a segment and of the whole stream are
judged by the true ones. An example that comes round again is no new evidence: every n and every interval counts
distinct examples.

Kept at any time: one batch, the announcements that wait for a label, and the windows. So memory depends on batch,
delay, windows and number of examples in the sets, not on the length of the stream. The stream is cut into batches at
the ends of segments too. Results are a function of the recipe and the artifacts it names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed.calibration.inputs import softmax
from testbed.metrics.estimate import Estimate
from testbed.metrics.resampled import ProbabilityMetric
from testbed.metrics.rolling import Rolling
from testbed.monitoring.guard import Verdict
from testbed.monitoring.schedule import Schedule, Steps
from testbed.monitoring.settings import ReplaySettings
from testbed.monitoring.source import Dealer, Source
from testbed.monitoring.tally import Tally, weights
from testbed.monitoring.tracked import Told, Tracked
from testbed.monitoring.watch import Watch
from testbed.seeding import Rng
from testbed.types import Array, Ints, Outputs

Row = dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """Examples from step `first` on whose labels have not arrived."""

    first: int
    logits: Array
    labels: Ints
    ids: Ints
    told: Sequence[Told]

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, count: int) -> tuple[Waiting, Waiting]:
        """The first `count` examples, and the rest."""
        a, b = slice(0, count), slice(count, None)
        return (
            Waiting(self.first, self.logits[a], self.labels[a], self.ids[a], [t.take(a) for t in self.told]),
            Waiting(self.first + count, self.logits[b], self.labels[b], self.ids[b], [t.take(b) for t in self.told]),
        )


class Replay:
    """A stream over the outputs of one model.

    schedule     which condition each step is under; `names` and `sources` are theirs by position
    titles       of the segments
    calibration  outputs of the calibration split, with labels
    calibrators  fitted calibrators by name; the first is the one that differences are taken from
    metric       what the rollback rule compares
    """

    def __init__(
        self,
        asked: ReplaySettings,
        schedule: Schedule,
        names: Sequence[str],
        titles: Sequence[str],
        sources: Sequence[Source],
        calibration: Outputs,
        calibrators: Mapping[str, Any],
        metric: ProbabilityMetric | None = None,
    ) -> None:
        self.asked, self.schedule, self.names, self.titles = asked, schedule, list(names), list(titles)
        needs = {need for one in calibrators.values() for need in getattr(one, "needs", ())}
        self.dealer = Dealer(sources, asked.seed, "features" in needs)
        self.tracked = [Tracked(name, one, calibration, asked, metric) for name, one in calibrators.items()]
        reference = softmax(_some(calibration, asked.drift.reference, asked.seed))
        self.watch = Watch(reference, asked.drift, asked.seed)
        self.waiting: deque[Waiting] = deque()
        self.whole, self.part = self._tally(), self._tally()

    def rows(self) -> Iterator[Row]:
        """Every row of the stream, in order of steps."""
        start = 0
        while start < self.schedule.length:
            steps = self.schedule.at(start, start + self.asked.batch).first_segment()
            stop = start + len(steps.segment)
            place = {"step": stop, "segment": int(steps.segment[-1]), "condition": self.names[steps.condition[-1]]}
            yield from ({**place, **row} for row in self._batch(steps, start, stop))
            start = stop

    def _batch(self, steps: Steps, start: int, stop: int) -> Iterator[Row]:
        outputs = self.dealer.take(steps.condition)
        yield from self.watch.add(softmax(outputs.logits), steps.drifted)
        self._announce(outputs, steps, start)
        yield from self._arrivals(stop - self.asked.label_delay)
        if stop // self.asked.rolling.every > start // self.asked.rolling.every:
            yield from self._rolling()
        last = stop == self.schedule.length
        if last or self.schedule.at(stop, stop + 1).segment[0] != steps.segment[-1]:
            title = self.titles[steps.segment[-1]]
            yield from ({"scope": "segment", "condition": title, **row} for row in self.part.rows())
            self.part = self._tally()
        if last:
            yield from ({**row, "segment": None, "condition": None} for row in self._closing())

    def _announce(self, outputs: Outputs, steps: Steps, start: int) -> None:
        truth = np.asarray(outputs.labels, dtype=np.int64)
        arriving = garbled(truth, steps.wrong_labels, outputs.logits.shape[1], start, self.asked.seed)
        told, judged = [], []
        for one in self.tracked:
            announced = one.announce(outputs)
            told.append(one.told(announced, outputs, arriving))
            judged.append(announced.judge(truth))
        ids = np.asarray(outputs.ids, dtype=np.int64)
        self.waiting.append(Waiting(start, outputs.logits, arriving, ids, told))
        weight = weights(ids, self.asked.seed, self.asked.rolling.replicates)
        for tally in (self.part, self.whole):
            tally.add(judged, weight, ids)

    def _arrivals(self, known: int) -> Iterator[Row]:
        """Learn the labels of all steps before `known`."""
        while self.waiting and self.waiting[0].first < known:
            first = self.waiting.popleft()
            due, rest = first.cut(min(len(first), known - first.first))
            if len(rest):
                self.waiting.appendleft(rest)
            for one, told in zip(self.tracked, due.told, strict=True):
                verdict = one.learn(told, due.logits, due.labels, due.ids)
                if verdict is not None:
                    yield _verdict(one.name, verdict)

    def _rolling(self) -> Iterator[Row]:
        for one in self.tracked:
            if one.rolling.seen:
                for metric, estimate in _measures(one.rolling, one.rolling_adaptive):
                    yield {"scope": "rolling", "calibrator": one.name, "metric": metric, **_plain(estimate)}

    def _closing(self) -> Iterator[Row]:
        yield from ({"scope": "stream", **row} for row in self.whole.rows())
        yield from self.watch.close()
        for one in self.tracked:
            if one.guard is not None:
                yield {"scope": "stream", "calibrator": one.name, "metric": "rollbacks",
                       "value": float(one.rollbacks), "n": one.trials, "convention": "of n trials"}  # fmt: skip

    def _tally(self) -> Tally:
        return Tally([one.name for one in self.tracked], self.asked.rolling.replicates)


def garbled(labels: Ints, share: Array, classes: int, start: int, seed: int) -> Ints:
    """The labels `[n]` as they will arrive: each is another class, drawn evenly, with the probability `share` `[n]`.

    >>> garbled(np.array([1, 1]), np.array([0.0, 1.0]), 2, 0, 0).tolist()
    [1, 0]
    """
    if not np.any(share):
        return labels
    drawn = Rng("labels", 1, seed, start + np.arange(len(labels))).uniform((2,), name="wrong").astype(np.float64)
    other = (labels + 1 + np.floor(drawn[:, 1] * (classes - 1)).astype(np.int64)) % classes
    return np.where(drawn[:, 0] < share, other, labels)


def _some(calibration: Outputs, count: int, seed: int) -> Array:
    """Logits of `count` calibration examples, drawn without replacement."""
    n = len(calibration)
    order = np.random.Generator(np.random.Philox(key=[seed, n])).permutation(n)
    return np.asarray(calibration.logits)[np.sort(order[:count])]


def _measures(rolling: Rolling, adaptive: Rolling) -> Iterable[tuple[str, Estimate]]:
    yield "accuracy", rolling.accuracy()
    yield "ece", rolling.ece()
    yield "nll", rolling.nll()
    yield "coverage", rolling.coverage()
    yield "coverage_adaptive", adaptive.coverage()
    yield "set_size", rolling.set_size()
    yield "set_size_adaptive", adaptive.set_size()


def _plain(estimate: Estimate) -> Row:
    return {"value": estimate.value, "ci_low": estimate.low, "ci_high": estimate.high, "n": estimate.n,
            "convention": estimate.convention}  # fmt: skip


def _verdict(name: str, verdict: Verdict) -> Row:
    d = verdict.difference
    event = f"rolled back to {verdict.back_to}" if verdict.back_to else "kept"
    return {"scope": "update", "calibrator": name, "metric": f"{d.metric}_change", "value": d.change, "ci_low": d.low,
            "ci_high": d.high, "n": d.n, "event": event, "alarm": bool(verdict.back_to),
            "convention": f"served minus {verdict.back_to or 'the first alternative'}; {d.convention}"}  # fmt: skip
