"""A number whose audit failed is marked in every view, and no other is."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from testbed.report import brief, latex, markdown, terminal
from testbed.report.doubt import DOUBT, doubted, doubts
from testbed.report.load import read_run
from testbed.report.payload import payload
from testbed.report.selection import notes, selections, table_rows
from testbed.results import paired
from testbed.types import RESULTS, RESULTS_VERSION, arrow_schema


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


@pytest.mark.parametrize("flag", ["fit:at_bound", "softmax_as_logits", "random_weights", "at_chance", "no_answer=3",
                                  "undeclared_read(/etc/hosts)", "fit:worse_than_uncalibrated"])  # fmt: skip
def test_every_flag_that_speaks_against_a_number_marks_it(flag):
    row = {"metric": "ece", "value": 0.1, "flags": f"audit:pass;{flag}"}
    assert len(doubts(row)) == 1 and doubted(row) and not doubted({**row, "value": None})
    assert not doubted({**row, "flags": "audit:pass;tuned:k=5 (auroc 0.9 on the tuning set);interval:pooled rows"})


def printed(show, run):
    console = Console(file=io.StringIO(), width=200)
    show(run, console)
    return console.file.getvalue()


def test_the_table_at_the_end_of_a_run_and_all_other_tables_mark_it(run):
    text = printed(brief.show_brief, run)
    lines = [line for line in text.splitlines() if DOUBT in line]
    assert lines[:-1] and all("pgd linf 0.2" in line and "adversarial" in line for line in lines[:-1])
    assert "something speaks against this number" in lines[-1]
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
    marked = [row for row in run.rows if row["eps"] == 0.2 and row["model"] == "adversarial"]
    assert page["rows"]["columns"]["doubted"]["values"].count(True) == len(marked)
    assert any(any(one["doubted"]) for table in page["selection"] for one in table["candidates"])


def test_a_comparison_marks_the_cell_of_which_either_side_is_doubted(run):
    side = paired.Side(run, None, {})
    rows = [row for row in run.rows if row["ood_set"] and row["model"] == "adversarial" and row["metric"] == "auroc"]
    named = {
        row["eps"]: paired._pair(side, side, (row, "a"), (row, "b"), frozenset({"ece"})).where
        for row in rows if row["eps"] in (0.1, 0.2)
    }  # fmt: skip
    assert named[0.2].endswith(DOUBT) and DOUBT not in named[0.1]
