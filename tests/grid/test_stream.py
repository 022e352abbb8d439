"""Stream files: every mistake at once with its place, and the jobs a grid would plan."""

import copy

import pytest

from testbed.errors import UsageError
from testbed.grid.planner import plan
from testbed.grid.reader import from_mapping, read_text
from testbed.grid.stream import make_stream_plan, resolve_stream

STREAM = {
    "name": "small",
    "data": {"use": "digits", "train": 300, "calibration": 100, "test": 100},
    "model": {"use": "small-cnn", "name": "net", "train": {"recipe": "standard", "epochs": 1}},
    "stream": [
        {"steps": 50},
        {"condition": {"shift": "gaussian_noise", "severity": 3}, "steps": 50},
        {"condition": {"attack": "fgsm", "norm": "linf", "eps": "8/255"}, "steps": 50, "change": "gradual"},
    ],
    "calibrators": ["none", "temperature", "windowed_temperature"],
}


@pytest.fixture
def stream():
    return copy.deepcopy(STREAM)


def planned(value):
    return make_stream_plan(resolve_stream(from_mapping(value)))


def lines_of(text):
    with pytest.raises(UsageError) as error:
        resolve_stream(read_text(text, "stream.yaml"))
    return str(error.value).splitlines()


def test_a_stream_plans_the_jobs_that_a_grid_plans(stream, grid):
    grid["calibrators"] = stream["calibrators"]
    theirs, mine = plan(grid).jobs, planned(stream).jobs
    own = {job.kind for digest, job in mine.items() if digest not in theirs}
    assert own == {"replay"}
    assert {"train", "forward", "shift", "attack", "calibrate", "split"} <= {job.kind for job in mine.values()}


def test_names_do_not_decide_the_replay_but_the_schedule_does(stream):
    def replay(value):
        (job,) = [job for job in planned(value).jobs.values() if job.kind == "replay"]
        return job.digest

    first = replay(stream)
    assert replay(stream | {"name": "other"}) == first
    assert replay(stream | {"label_delay": 10}) != first
    assert replay(stream | {"seed": 1}) != first
    stream["stream"][0]["steps"] = 60
    assert replay(stream) != first


def test_defaults_are_filled_in_before_the_digest(stream):
    (job,) = [job for job in planned(stream).jobs.values() if job.kind == "replay"]
    assert job.recipe["segments"][2]["over"] == 50
    assert job.recipe["settings"]["drift"]["every"] == job.recipe["settings"]["drift"]["window"]
    assert job.recipe["conditions"] == ["clean", "gaussian_noise s3", "fgsm linf 0.03137"]
    assert job.recipe["titles"][2] == "fgsm linf 0.03137 mixed into gaussian_noise s3"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("label_delay: 1e12", "label_delay: expected less than the stream's 100 steps, got 1000000000000"),
        ("label_delay: 100", "no label would arrive"),
        ("rollback: {window: 1000}", "rollback.window: expected at most the stream's 100 steps, got 1000"),
        ("rollback: {window: 1e30}", "rollback.window: "),
        ("rolling: {window: 101}", "rolling.window: expected at most"),
        ("drift: {window: 101}", "drift.window: expected at most"),
    ],
)
def test_what_is_longer_than_the_stream_is_refused_with_its_line(change, says):
    text = "name: s\ndata: {use: digits, calibration: 100}\nmodel: {use: small-cnn, train: {}}\n"
    lines = lines_of(text + "calibrators: [none]\nstream: [{steps: 100}]\n" + change)
    assert any(line.startswith("stream.yaml:6:") and says in line for line in lines)


def test_the_defaults_of_windows_go_with_a_short_stream(stream):
    assert sum(one["steps"] for one in stream["stream"]) == 150 < 500
    planned(stream)


WRONG = """\
name: wrong
data: {use: digits, calibration: 100, tset: 5}
model: {use: small-cnn, train: {epochs: 0}}
stream:
  - {condition: clean, stpes: 10}
  - {condition: {shift: fog, severity: 9}, steps: 10}
  - {condition: clean, steps: 10, change: suddenly}
calibrators: [none]
drift: {detectors: [ks, mdm], levle: 0.1}
rolling: {window: 1}
conformal: {alpha: 2}
sede: 3
"""


def test_the_schema_pass_reports_all_its_problems_with_places():
    lines = lines_of(WRONG)
    assert "stream.yaml:5:24  stream[0].stpes: unknown key; did you mean 'steps'?" in lines
    assert "stream.yaml:5:5  stream[0].steps: required, but not given" in lines
    assert "stream.yaml:6:30  stream[1].condition.severity: expected a severity in [0, 5], got 9" in lines
    assert any(line.startswith("stream.yaml:7:35  stream[2].change: expected 'sudden', 'gradual'") for line in lines)
    assert any(line.startswith("stream.yaml:9:25  drift.detectors[1]: expected 'ks', 'bbsd'") for line in lines)
    assert "stream.yaml:9:31  drift.levle: unknown key; did you mean 'level' or 'every'?" in lines
    assert any(line.startswith("stream.yaml:10:11  rolling.window") for line in lines)
    assert any(line.startswith("stream.yaml:11:13  conformal.alpha") for line in lines)
    assert "stream.yaml:12:1  sede: unknown key; did you mean 'seed'?" in lines
    assert any("model.train.epochs" in line for line in lines)


UNFIT = """\
name: unfit
data: {use: digits, calibration: 100, test: 100, tset: 5}
model: {use: small-cn}
stream:
  - {condition: {shift: fog, severity: 1}, steps: 10, change: recurring}
  - {condition: {shift: fog, severity: [1, 2]}, steps: 10}
  - {condition: {shift: fgo}, steps: 10, change: ramp}
  - {condition: clean, steps: 10, change: ramp}
  - {condition: clean, steps: 10, over: 5}
  - {condition: clean, steps: 10, change: recurring, period: 11}
  - {condition: {attack: fgsm, eps: 0.1, victim: calibrated}, steps: 10}
calibrators: [none, none, transcal, temprature]
drift: {detectors: [mmd, mmd], level: 0.001}
rollback: {metric: auroc}
"""


def test_the_name_pass_reports_all_its_problems_with_places():
    lines = lines_of(UNFIT)
    told = "\n".join(lines)
    assert "stream.yaml:2:50  data.tset: unknown key of dataset 'digits'; did you mean 'test'?" in told
    assert "stream.yaml:3:9  model.use: " in told and "did you mean 'small_cnn'?" in told
    assert "stream.yaml:5:55  stream[0].change: the first segment has nothing before it" in told
    assert "stream.yaml:6:6  stream[1].condition: names 2 conditions; only `change: ramp`" in told
    assert "stream.yaml:7:18  stream[2].condition.shift" in told and "did you mean 'fog'?" in told
    assert "stream.yaml:8:6  stream[3].condition: a ramp needs several severities" in told
    assert "stream.yaml:9:35  stream[4].over: goes with `change: gradual`" in told
    assert "stream.yaml:10:54  stream[5].period: expected at most the segment's 10 steps, got 11" in told
    assert "stream.yaml:11:42  stream[6].condition.victim: a stream's attacks are made against the model" in told
    assert "calibrators[1]: two calibrators are called 'none'" in told
    assert "calibrators[2]: calibrator 'transcal' is fitted on unlabelled target data" in told
    assert "did you mean 'temperature'" in told
    assert "drift.permutations: mmd cannot reach a level of 0.001; give at least 1001 permutations" in told
    assert "drift.detectors: a detector is named twice" in told
    assert "stream.yaml:14:12  rollback.metric: 'auroc' does not compare probabilities" in told


def test_an_empty_calibration_split_is_a_problem_of_the_data():
    text = (
        "name: x\ndata: {use: digits, calibration: 0}\nmodel: small-cnn\nstream: [{steps: 5}]\ncalibrators: temperature"
    )
    assert any(line.startswith("stream.yaml:2:") for line in lines_of(text))


@pytest.mark.parametrize("text", ["[1, 2]", "name: x", "just words"])
def test_what_is_no_stream_is_said_to_be_none(text):
    assert lines_of(text)
