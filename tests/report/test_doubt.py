"""A number that something speaks against is marked in every view, with what it is, and no other is."""

import io
import shutil
import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from testbed.report import brief, latex, markdown, terminal
from testbed.report.doubt import DOUBT, DOUBTS, doubts, marked
from testbed.report.doubt import notes as said_below
from testbed.report.load import read_run
from testbed.report.page import write_page
from testbed.report.payload import payload
from testbed.report.selection import notes, selections, table_rows
from testbed.results import paired
from testbed.types import RESULTS, RESULTS_VERSION, arrow_schema

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture
def run(tmp_path, write_run):
    """The attack at 0.2 on one model failed its audit, the one on the other passed."""
    folder = write_run(tmp_path / "r", images=False)
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    for row in rows:
        if row["eps"] == 0.2:
            row["flags"] = "audit:fail(transfer)" if row["model"] == "adversarial" else "audit:pass"
    table = pa.Table.from_pylist(rows, schema=arrow_schema(RESULTS, RESULTS_VERSION))
    pq.write_table(table, folder / "results.parquet")
    return read_run(folder)


KINDS = ["audit:fail(late_gain)", "fit:at_bound", "fit:not_converged", "fit:one_class", "fit:absent_classes",
         "fit:looks_like_probs", "fit:worse_than_uncalibrated", "fitted_without=2", "softmax_as_logits",
         "random_weights", "at_chance", "no_answer=3", "id:nan=1", "id:infinite=1", "ood:nan=1", "ood:infinite=1",
         "undeclared_read(/etc/hosts)", "estimate-failed"]  # fmt: skip


@pytest.mark.parametrize("flag", KINDS)
def test_every_flag_that_speaks_against_a_number_marks_it_in_a_sentence(flag):
    row = {"metric": "ece", "value": 0.1, "flags": f"audit:pass;{flag}"}
    (sentence,) = doubts(row)
    assert " " in sentence and sentence in DOUBTS.values() and not doubts({**row, "value": None})
    assert marked("0.1", doubts(row)) == "0.1 †"


def test_the_catalogue_has_no_flag_that_is_not_tried_here():
    assert {flag.partition("(")[0].partition("=")[0] for flag in KINDS} == set(DOUBTS)


def test_a_flag_that_says_how_a_number_was_made_is_no_doubt():
    made = "audit:pass;tuned:k=5 (auroc 0.9 on the tuning set);interval:pooled rows;external;nondeterministic"
    assert doubts({"value": 0.1, "flags": f"{made};fit:not_cross_validated"}) == () and doubts({"value": 0.1}) == ()


def test_a_flag_that_nobody_knows_passes_through_and_marks():
    assert doubts({"value": 0.1, "flags": "fit:RuntimeWarning; mine=3;mine=3"}) == ("fit:RuntimeWarning", "mine=3")


def test_a_note_says_each_kind_that_is_shown_once_and_stands_below_marks_alone():
    audit, bound = DOUBTS["audit:fail"], DOUBTS["fit:at_bound"]
    assert said_below([(), (audit,), (bound, audit)]) == [
        f"† something speaks against this number: {audit}; or {bound}"
    ]
    assert said_below([(), ()]) == said_below([]) == []


def printed(show, run):
    console = Console(file=io.StringIO(), width=200)
    show(run, console)
    return console.file.getvalue()


def test_the_table_at_the_end_of_a_run_and_all_other_tables_mark_it(run):
    text = printed(brief.show_brief, run)
    lines = [line for line in text.splitlines() if DOUBT in line]
    assert lines[:-1] and all("pgd linf 0.2" in line and "adversarial" in line for line in lines[:-1])
    assert lines[-1] == f"† something speaks against this number: {DOUBTS['audit:fail']}"
    for show in (latex.latex(run), markdown.markdown(run), printed(terminal.show, run)):
        assert DOUBT in show or r"$\dagger$" in show


def test_the_selection_marks_the_robust_accuracy_of_that_model_alone(run):
    (table,) = selections(run, 50)
    head, rows = table_rows(table, {})
    at = head.index("robust_accuracy")
    assert {row[2]: DOUBT in row[at] for row in rows} == {"adversarial": True}
    assert any(note.startswith(DOUBT) for note in notes(table, {}))


def test_the_page_has_the_mark_of_each_row_and_candidate(run):
    page = payload(run)
    of_it = [row for row in run.rows if row["eps"] == 0.2 and row["model"] == "adversarial"]
    column = page["rows"]["columns"]["doubts"]
    assert column["values"] == [None, DOUBTS["audit:fail"]] and column["codes"].count(1) == len(of_it)
    (table,) = page["selection"]
    names = [c["name"] for c in table["criteria"]]
    those = [one["doubts"] for one in table["candidates"] if one["model"] == "adversarial"]
    found = [dict(zip(names, doubt, strict=True)) for doubt in those]
    assert all(one["robust_accuracy"] == [DOUBTS["audit:fail"]] and one["accuracy"] == [] for one in found) and found


def test_a_comparison_marks_the_cell_of_which_either_side_is_doubted(run):
    side = paired.Side(run, None, {})
    rows = [row for row in run.rows if row["ood_set"] and row["model"] == "adversarial" and row["metric"] == "auroc"]
    named = {
        row["eps"]: paired._pair(side, side, (row, "a"), (row, "b"), frozenset({"ece"})).where
        for row in rows if row["eps"] in (0.1, 0.2)
    }  # fmt: skip
    assert named[0.2].endswith(DOUBT) and DOUBT not in named[0.1]


def flagged(folder, flag, **where):
    """The run with this flag on the rows that fit and on no other."""
    rows = pq.read_table(folder / "results.parquet").to_pylist()
    for row in rows:
        row["flags"] = flag if all(row[name] == value for name, value in where.items()) else None
    table = pa.Table.from_pylist(rows, schema=arrow_schema(RESULTS, RESULTS_VERSION))
    pq.write_table(table, folder / "results.parquet")
    return read_run(folder)


def test_a_screen_that_does_not_show_the_number_does_not_explain_its_mark(tmp_path, write_run):
    folder = write_run(tmp_path / "r", images=False)
    shown = printed(brief.show_brief, flagged(folder, "fit:at_bound", metric="nll"))
    assert DOUBT not in shown
    shown = printed(brief.show_brief, flagged(folder, "fit:at_bound", metric="ece"))
    assert DOUBTS["fit:at_bound"] in shown and DOUBTS["audit:fail"] not in shown


def test_the_selection_marks_each_criterion_by_the_flags_of_its_own_rows(tmp_path, write_run):
    folder = write_run(tmp_path / "r", images=False)
    (table,) = selections(flagged(folder, "no_answer=1", kind="clean", metric="accuracy", model="adversarial"), 50)
    doubted = {(c.model, name) for c in table.candidates for name, one in c.measured.items() if one.doubts}
    assert doubted == {("adversarial", "accuracy")}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to draw the page with")
def test_the_drawn_page_explains_the_mark_in_the_sections_that_show_it_alone(run, tmp_path):
    """A curve has the mark at its point; the reliability of clean data and the detection on it have none."""
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    flags += ["--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,6000"]
    command = [CHROMIUM, *flags, write_page(run).as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    parts = {part.partition('"')[0]: part for part in dom[dom.index("<body") :].split('<section id="')[1:]}
    said = f"† something speaks against this number: {DOUBTS['audit:fail']}. Its details say more."
    for name in ("overview", "curves", "selection"):
        assert parts[name].count(said) == 1 and DOUBT in parts[name].replace(said, "")
    for name in ("reliability", "detection"):
        assert DOUBT not in parts[name]
