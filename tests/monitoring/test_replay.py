"""The replay against a plain one that keeps everything, and its memory against the length of the stream."""

from __future__ import annotations

import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from testbed.calibration.conformal import AdaptiveAlpha, threshold
from testbed.calibration.inputs import softmax
from testbed.metrics import ece
from testbed.metrics.scores import Nll
from testbed.monitoring.replay import Replay, garbled
from testbed.monitoring.schedule import Schedule, Segment
from testbed.monitoring.settings import (
    DriftSettings,
    ReplaySettings,
    RollbackSettings,
    RollingSettings,
)
from testbed.plugins import read
from testbed.types import Outputs

K = 4


def outputs(n: int, seed: int, noise: float) -> Outputs:
    """Over-confident logits; noise hides the label."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, n)
    z = rng.normal(size=(n, K)) + 2 * np.eye(K)[y] + noise * rng.normal(size=(n, K))
    return Outputs((3 * z).astype(np.float32), None, y, np.arange(n))


class Held:
    """A source in memory."""

    def __init__(self, given: Outputs) -> None:
        self.given, self.ids = given, np.asarray(given.ids)

    def take(self, rows: np.ndarray, features: bool) -> Outputs:
        return self.given.take(rows)


CALIBRATION = outputs(400, 9, 0.0)
SOURCES = (Held(outputs(300, 1, 0.0)), Held(outputs(300, 2, 2.5)))
SMALL = ReplaySettings(
    seed=1,
    batch=20,
    label_delay=50,
    drift=DriftSettings(("ks", "confidence"), 60, 60, 0.01, 200, 120),
    rolling=RollingSettings(100, 100, 60),
    rollback=None,
)


def fitted(*names: str) -> dict[str, Any]:
    made = {name: read("calibrator", name).build() for name in names}
    for one in made.values():
        one.fit(CALIBRATION.logits, CALIBRATION.labels)
    return made


def replayed(segments: tuple[Segment, ...], calibrators: Mapping[str, Any], asked: ReplaySettings = SMALL) -> Replay:
    plan = Schedule(segments, asked.seed)
    titles = [f"segment {i}" for i in range(len(segments))]
    return Replay(asked, plan, ["clean", "noise"], titles, SOURCES, CALIBRATION, calibrators, Nll())


def find(rows: list[dict[str, Any]], **where: Any) -> list[dict[str, Any]]:
    return [row for row in rows if all(row.get(k) == v for k, v in where.items())]


CLEAN_THEN_NOISE = (Segment((0,), 300), Segment((1,), 300))


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return list(replayed(CLEAN_THEN_NOISE, fitted("none", "temperature", "windowed_temperature")).rows())


def test_a_static_calibrator_is_judged_as_on_the_whole_set(rows: list[dict[str, Any]]) -> None:
    """A segment as long as the set shows each example once, so its measures are those of the set."""
    for segment, source in enumerate(SOURCES):
        p, y = softmax(source.given.logits), np.asarray(source.given.labels)
        of = {row["metric"]: row for row in find(rows, scope="segment", segment=segment, calibrator="none")}

        assert of["accuracy"]["value"] == pytest.approx((p.argmax(axis=1) == y).mean())
        assert of["ece"]["value"] == pytest.approx(ece(p, y))
        assert of["nll"]["value"] == pytest.approx(-np.log(p[np.arange(300), y]).mean())
        assert of["accuracy"]["n"] == 300
        for one in of.values():
            assert one["ci_low"] <= one["value"] <= one["ci_high"]


def test_an_online_calibrator_and_its_sets_against_a_plain_loop(rows: list[dict[str, Any]]) -> None:
    """All examples in a list, labels learned one batch late by the clock: the same numbers."""
    replay = replayed(CLEAN_THEN_NOISE, fitted("none"))
    shown = [replay.dealer.take(replay.schedule.at(t, t + 20).condition) for t in range(0, 600, 20)]
    logits = np.concatenate([np.asarray(o.logits) for o in shown])
    labels = np.concatenate([np.asarray(o.labels) for o in shown])
    online = fitted("windowed_temperature")["windowed_temperature"]
    aci, losses, held, known = AdaptiveAlpha(0.1, 0.005), [], [], 0
    missed: list[bool] = []
    for t in range(0, 600, 20):
        at_label = 1 - online.probs(CALIBRATION.logits)[np.arange(400), np.asarray(CALIBRATION.labels)]
        p = online.probs(logits[t : t + 20])[np.arange(20), labels[t : t + 20]]
        losses += (-np.log(p)).tolist()
        held += (1 - p <= threshold(at_label, 0.1) + 1e-12).tolist()
        missed += (1 - p > threshold(at_label, aci.alpha) + 1e-12).tolist()
        due = max(known, t + 20 - 50)
        if due > known:
            for one in missed[known:due]:
                aci.update(missed=one)
            online.partial_fit(logits[known:due], labels[known:due])
            known = due
    of = {row["metric"]: row["value"] for row in find(rows, scope="stream", calibrator="windowed_temperature")}

    assert of["nll"] == pytest.approx(np.mean(losses))
    assert of["coverage"] == pytest.approx(np.mean(held))
    assert of["coverage_adaptive"] == pytest.approx(1 - np.mean(missed))


def test_rolling_measures_know_only_labels_that_arrived(rows: list[dict[str, Any]]) -> None:
    rolling = find(rows, scope="rolling", calibrator="none", metric="accuracy")
    p, y = softmax(SOURCES[0].given.logits), np.asarray(SOURCES[0].given.labels)
    order = replayed(CLEAN_THEN_NOISE, fitted("none")).dealer._decks[0].deal(600)
    right = (p.argmax(axis=1) == y)[order]

    assert [row["step"] for row in rolling] == [100, 200, 300, 400, 500, 600]
    windows = [order[max(0, step - 150) : step - 50] for step in range(100, 601, 100)]
    assert [row["n"] for row in rolling] == [len(set(one.tolist())) for one in windows]
    assert rolling[3]["n"] < 100  # the second pass has begun: what came twice counts once
    assert rolling[0]["value"] == pytest.approx(right[:50].mean())
    assert rolling[2]["value"] == pytest.approx(right[150:250].mean())


def test_drift_is_found_and_its_delay_counted(rows: list[dict[str, Any]]) -> None:
    tests = find(rows, scope="drift", detector="confidence", metric="p_value")
    (episode,) = find(rows, scope="episode", detector="confidence")
    by = {row["metric"]: row for row in find(rows, scope="detector", detector="confidence")}

    assert [row["step"] for row in tests] == list(range(60, 601, 60))
    assert all(row["alarm"] == (row["value"] < 0.01) for row in tests)
    assert episode["value"] == episode["step"] - 300 and episode["alarm"]
    assert by["detected"]["value"] == 1.0 and by["detected"]["n"] == 1
    assert by["mean_delay"]["value"] == episode["value"]
    assert by["false_alarm_rate"]["n"] == 5
    assert by["false_alarm_rate"]["value"] == sum(row["alarm"] for row in tests[:5]) / 5


def test_an_episode_between_two_tests_is_missed() -> None:
    short = (Segment((0,), 130), Segment((1,), 20), Segment((0,), 150))
    found = find(list(replayed(short, fitted("none")).rows()), scope="episode", detector="ks")

    assert [row["event"] for row in found] == ["missed: drift from step 130 on"]
    assert np.isnan(found[0]["value"])


def test_it_is_deterministic() -> None:
    again = [list(replayed(CLEAN_THEN_NOISE, fitted("none", "online_platt")).rows()) for _ in range(2)]

    assert repr(again[0]) == repr(again[1])


@pytest.mark.parametrize("delay", [0, 1, 19, 45, 700])
def test_every_label_arrives_in_its_turn_and_none_early(delay: int) -> None:
    asked = ReplaySettings(**{**SMALL.__dict__, "label_delay": delay})
    replay = replayed(CLEAN_THEN_NOISE, fitted("none"), asked)
    for row in replay.rows():
        waiting = sum(map(len, replay.waiting))
        if row["scope"] == "rolling":
            assert waiting == min(delay, row["step"])
    assert replay.tracked[0].rolling.seen == max(0, 600 - delay)


def test_wrong_labels_are_as_many_as_asked_and_never_right() -> None:
    labels = np.arange(20_000) % K
    arrived = garbled(labels, np.full(20_000, 0.3), K, 0, 0)
    wrong = arrived != labels

    assert wrong.mean() == pytest.approx(0.3, abs=0.01)
    assert np.bincount((arrived - labels)[wrong] % K, minlength=K)[1:].min() > 0.3 * wrong.sum()
    assert np.array_equal(arrived[100:200], garbled(labels[100:200], np.full(100, 0.3), K, 100, 0))


def test_wrong_labels_reach_what_learns_but_not_the_truth() -> None:
    segments = (Segment((0,), 300, wrong_labels=1.0),)
    found = list(replayed(segments, fitted("none")).rows())

    assert find(found, scope="segment", metric="accuracy")[0]["value"] > 0.7
    assert find(found, scope="rolling", metric="accuracy")[-1]["value"] < 0.3


def test_a_set_shown_sixteen_times_is_worth_one_showing() -> None:
    """n and every interval of 16 passes over 300 examples are those of one pass."""
    once, often = (
        find(list(replayed((Segment((0,), 300 * times),), fitted("none")).rows()), scope="stream", calibrator="none")
        for times in (1, 16)
    )
    one, many = ({row["metric"]: row for row in rows} for rows in (once, often))

    for metric in ("accuracy", "ece", "nll", "coverage", "set_size"):
        assert many[metric]["n"] == one[metric]["n"] == 300
        for end in ("value", "ci_low", "ci_high"):
            assert many[metric][end] == pytest.approx(one[metric][end], abs=1e-12)
    assert many["accuracy"]["convention"].endswith("300 examples in 4800 steps")


def peak(length: int) -> float:
    """Megabytes at the peak of a replay of this many steps, all rows taken and none kept."""
    asked = ReplaySettings(**{**SMALL.__dict__, "rollback": RollbackSettings(window=100)})
    calibrators = fitted("none", "windowed_temperature")
    segments = tuple(Segment((i % 2,), length // 4) for i in range(4))
    tracemalloc.start()
    try:
        for _ in replayed(segments, calibrators, asked).rows():
            pass
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_stream() -> None:
    """Four times the steps: rows that were kept would take four times the memory, buffers move it by a sixth."""
    peak(400)
    short, long = peak(1200), peak(4800)

    assert long < 1.4 * short
