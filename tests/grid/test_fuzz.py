"""Any text is a grid, a stream, an override or a file of thresholds, or an error at once, with a place inside it.

Three kinds of case: valid files with pieces cut out, doubled or replaced by what has been trouble before; valid files
with one unknown key at a known place, which must be the place of the error; overrides of all sorts.
"""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testbed.cli.compare import from_file
from testbed.errors import TestbedError, UsageError
from testbed.grid.reader import override, read_text
from testbed.grid.resolve import resolve
from testbed.grid.stream import resolve_stream

GRID = """\
name: fuzz
seed: [0, 1]
x-base: &base {use: small-cnn, train: {recipe: standard, epochs: 1}}
data: [{use: digits, train: 60, calibration: 50, test: 50}]
models:
  - {<<: *base, name: one}
  - {<<: *base, name: two, predict: {mc_dropout: 5}}
conditions:
  - clean
  - {shift: [fog, {use: jpeg_compression, quality: 5}], severity: [1, 3.5]}
  - {attack: {use: pgd, steps: 5}, norm: linf, eps: [8/255, 1e-1], victim: "surrogate:one"}
  - {chain: [{shift: fog, severity: 3}, {attack: fgsm, eps: 0.1}], name: both}
calibrators: [none, {use: isotonic, fit: {shift: fog, severity: 2}}]
detectors: [msp, {use: knn, k: 5}, {use: vim, dim: 8, name: "v i m"}]
ood: [{use: [uniform, gaussian], group: far, limit: 20}]
metrics: [accuracy, {use: ece, bins: 10}, auroc]
exclude: [{model: one, condition: both}]
runtime: {threads: 1, batch: 100}
intervals: {level: 0.9, replicates: 50}
"""
STREAM = """\
name: fuzz
data: {use: digits, train: 60, calibration: 50, test: 50}
model: {use: small-cnn, train: {epochs: 1}}
stream:
  - {steps: 50}
  - {steps: 50, condition: {shift: fog, severity: [1, 2]}, change: ramp}
  - {steps: 40, condition: {attack: fgsm, eps: 0.1}, change: gradual, over: 10, wrong_labels: 0.2}
calibrators: [temperature, {use: windowed_temperature, window: 50}]
conformal: {score: lac, alpha: 0.1, gamma: 0.01}
drift: {detectors: [ks, bbsd], window: 20, level: 0.01}
rolling: {window: 20, every: 5, replicates: 50}
rollback: {metric: nll, window: 50, margin: 0.1, to: [previous]}
"""
THRESHOLDS = "ece: +0.01\naccuracy: -2e-2\nx-note: &a 3\nnll: *a\n"
PIECES = [
    "&a ", "*a", "<<: ", "!!float ", "!x ", "!!set ", "? ", ": ", "- ", "[", "]", "{", "}", ", ", "'", '"', "|\n",
    "#", "\n", "\r\n", "\t", "  ", "---\n", "...\n", "%YAML 1.1\n", "\x07", "\x85", "\u2028", "\ufeff", "\ud800", "é",
    r'"\0"', r'"\U00110000"', r'"\ud800"', ".nan", ".inf", "-.inf", "1e999", "9" * 30, "0x", "0o9", "1_0", "~", "null",
    "true", "no", "2020-01-01", "12:30", "8/0", "1/3/5", "-1", "0", "1e6", "..", "name: x\n", "use: pgd", ">\n",
    "use: ./no.py:f", "use: a:b", "shift: fog", "attack: pgd", "chain: []", "surrogate:*", "detector:msp", "x-y: 1\n",
    "[" * 70, "clean",
]  # fmt: skip


@st.composite
def damaged(draw, text):
    """A text with one to four pieces cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        stop = min(len(text), start + draw(st.integers(0, 12)))
        new = draw(st.one_of(st.sampled_from(PIECES), st.just(text[start:stop] * 2), st.text(max_size=3), st.just("")))
        text = text[:start] + new + text[stop:]
    return text


def in_place(text, run):
    """Run something on a text; an error of it has its place in the text, is one line a problem, and comes at once."""
    begun = time.process_time()
    try:
        run(text)
    except UsageError as error:
        assert error.exit_code in (2, 3)
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for problem in error.problems:
            assert str(problem).isprintable() and len(str(problem)) < 2000
            assert problem.line == 0 or 1 <= problem.line <= len(lines)
            assert problem.line == 0 or 1 <= problem.column <= len(lines[problem.line - 1]) + 1, str(problem)
            assert problem.line or problem.file.startswith("-o ")
            assert "known: " not in problem.message or not problem.message.endswith("known: ")
        assert error.problems or run is thresholds
    except TestbedError as error:
        assert str(error)
    assert time.process_time() - begun < 5


def grid(text):
    resolve(read_text(text, "grid.yaml"))


def stream(text):
    resolve_stream(read_text(text, "stream.yaml"))


def thresholds(text, folder):
    (folder / "limits.yaml").write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    from_file(folder / "limits.yaml")


def mappings(text):
    """Where the flow mappings of a text begin."""
    return [i + 1 for i, c in enumerate(text) if c == "{"]


@st.composite
def misplaced(draw, text):
    """A text with an unknown key at the head of one of its mappings, below some lines of comment; where that is."""
    text = "# é\n" * draw(st.integers(0, 30)) + text
    at = draw(st.sampled_from(mappings(text)))
    before, space = text[:at], " " * draw(st.integers(0, 3))
    place = before.count("\n") + 1, at - before.rfind("\n") + len(space)
    return f"{before}{space}zzqq{draw(st.integers(0, 99))}: 1, {text[at:]}", place


def check_misplaced(run, case):
    text, place = case
    with pytest.raises(UsageError) as error:
        run(text)
    places = {(problem.line, problem.column) for problem in error.value.problems if "zzqq" in problem.path}
    assert places == {place}, str(error.value)


KEYS = [
    "models",
    "0",
    "1",
    "99",
    "train",
    "seed",
    "name",
    "use",
    "x-a",
    "runtime",
    "threads",
    "²",
    "",
    "-1",
    "<<",
    "\x1b",
]


@st.composite
def settings_of_an_override(draw):
    """`path=value` of all sorts."""
    key = ".".join(draw(st.lists(st.one_of(st.sampled_from(KEYS), st.text(max_size=4)), max_size=5)))
    return (
        key + draw(st.sampled_from(["=", "=", "=", "", "=="])) + draw(st.sampled_from([*PIECES, "3", "[1]", "{a: 1}"]))
    )


def check_override(given):
    def run(text):
        document = read_text(text, "grid.yaml")
        override(document, given)
        resolve(document)

    in_place(GRID, run)


def fuzz(cases):
    """The settings of a fuzzing run; the fast tier's are the same every time."""
    quiet = list(HealthCheck)
    return settings(
        max_examples=cases, deadline=None, database=None, derandomize=cases < 100, suppress_health_check=quiet
    )


def test_the_files_are_valid_to_begin_with(tmp_path):
    grid(GRID)
    stream(STREAM)
    thresholds(THRESHOLDS, tmp_path)


TIERS = [pytest.param(1, id="some"), pytest.param(100, id="many", marks=[pytest.mark.slow, pytest.mark.timeout(300)])]


@pytest.mark.parametrize("times", TIERS)
def test_a_damaged_grid_is_an_error_in_its_place(times):
    fuzz(30 * times)(given(damaged(GRID))(lambda text: in_place(text, grid)))()


@pytest.mark.parametrize("times", TIERS)
def test_a_damaged_stream_is_an_error_in_its_place(times):
    fuzz(25 * times)(given(damaged(STREAM))(lambda text: in_place(text, stream)))()


@pytest.mark.parametrize("times", TIERS)
def test_a_damaged_file_of_thresholds_is_an_error_in_its_place(times, tmp_path):
    def run(text):
        thresholds(text, tmp_path)

    fuzz(15 * times)(given(damaged(THRESHOLDS))(lambda text: in_place(text, run)))()


@pytest.mark.parametrize("times", TIERS)
@pytest.mark.parametrize(("text", "run"), [(GRID, grid), (STREAM, stream)], ids=["grid", "stream"])
def test_an_unknown_key_is_found_where_it_is(text, run, times):
    fuzz(5 * times)(given(misplaced(text))(lambda case: check_misplaced(run, case)))()


@pytest.mark.parametrize("times", TIERS)
def test_any_override_is_taken_or_refused(times):
    fuzz(20 * times)(given(st.lists(settings_of_an_override(), min_size=1, max_size=3))(check_override))()
