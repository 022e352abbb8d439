"""Published tables: read, compared and rendered; the tables of this repository are well formed."""

import csv
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from testbed.errors import DataError, UsageError
from testbed.papers import stored
from testbed.papers.book import COLUMNS, keys, open_table
from testbed.papers.compare import compare, passed
from testbed.papers.compute import FUNCTIONS, clopper_pearson
from testbed.papers.render import latex, markdown

LINES = [
    ("A_1", "error", "8.0", "1.0", "error", "rows: model = 'a' AND metric = 'accuracy'", "table 1", "yes", "yes"),
    ("B", "accuracy", "90.0", "0.5", "percent", "rows: model = 'b'", "table 1", "yes", "no"),
    ("C", "accuracy", "70.0", "0.5", "percent", "rows: model = 'b'", "from memory", "no", "yes"),
    ("D", "bound", "5.8", "", "error", "not attempted: needs another tool", "table 2", "yes", "yes"),
    ("E", "accuracy", "1.0", "1.0", "percent", "rows: model = 'c'", "table 2", "yes", "no"),
    ("F", "accuracy", "1.0", "1.0", "percent", "rows: model = 'failed'", "table 2", "yes", "no"),
    ("G", "mCE", "100.0", "0.1", "number", "compute: alexnet_mce", "table 2", "yes", "yes"),
]


def write_table(folder, lines=LINES, columns=COLUMNS):
    folder.mkdir(exist_ok=True)
    with (folder / "published.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *lines])
    (folder / "README.md").write_text("# A table\n\nwhat deviates\n")
    (folder / "grid.yaml").write_text("name: t\n")
    return str(folder)


@pytest.fixture
def results(tmp_path):
    rows = {
        "model": ["a", "b", "failed"],
        "metric": ["accuracy"] * 3,
        "value": [0.915, 0.88, None],
        "ci_low": [0.9, 0.87, None],
        "ci_high": [0.93, 0.89, None],
        "n": [1017, 500, 500],
        "status": ["ok", "ok", "failed"],
        "error": [None, None, "DataError: no"],
    }
    pq.write_table(pa.table(rows), tmp_path / "results.parquet")
    return tmp_path / "results.parquet"


def test_figures_are_compared_in_the_papers_unit(tmp_path, results):
    rows = {row.figure.row: row for row in compare(open_table(write_table(tmp_path / "t")), {"": results})}

    assert (rows["A_1"].value, rows["A_1"].low, rows["A_1"].high) == pytest.approx((8.5, 7.0, 10.0))
    assert rows["A_1"].difference == pytest.approx(0.5) and rows["A_1"].n == 1017
    verdicts = {name: row.verdict for name, row in rows.items() if row.verdict != "within"}
    assert verdicts == {"B": "missed", "C": "reported", "D": "not attempted", "E": "failed", "F": "failed"}
    assert rows["C"].figure.published is None
    assert rows["E"].note == "0 rows of the run meet \"model = 'c'\"" and rows["F"].note == "DataError: no"
    assert not passed(list(rows.values()))


def test_the_quick_run_holds_the_rows_marked_quick(tmp_path, results):
    rows = compare(open_table(write_table(tmp_path / "t")), {"": results}, quick=True)

    assert [row.figure.row for row in rows] == ["A_1", "C", "D", "G"] and passed(rows)


def test_without_a_run_nothing_is_made_up(tmp_path):
    rows = compare(open_table(write_table(tmp_path / "t")), {"": "no run"})

    assert [row.value for row in rows if row.figure.ours.startswith("rows")] == [None] * 5


def test_tables_as_markdown_and_latex(tmp_path, results):
    table = open_table(write_table(tmp_path / "t"))
    rows = compare(table, {"": results})
    text, tex = markdown(table.title, rows), latex(table.title, rows)

    first = [cell.strip() for cell in text.splitlines()[4].split("|")[1:-1]]
    paper, printed = markdown(table.title, rows, paper=True).splitlines(), latex(table.title, rows, paper=True)
    head = [cell.strip() for cell in paper[2].split("|")[1:-1]]
    body = {line[0]: line[1:] for line in ([c.strip() for c in row.split("|")[1:-1]] for row in paper[4:11])}
    assert head == ["", "error", "accuracy", "bound", "mCE"] and len({len(line) for line in paper[2:11]}) == 1
    assert body["A_1"] == ["8.00 / 8.50", "", "", ""] and body["B"] == ["", "90.00 / 88.00 !", "", ""]
    assert body["C"] == ["", "88.00", "", ""] and body["D"] == ["", "", "5.80 / -", ""]
    assert r"A\_1 & 8.00 / 8.50 &  &  &  \\" in printed and r"\begin{tabular}{lrrrr}" in printed
    assert first == ["A_1", "error", "8.00", "8.50", "7.00 to 10.00", "1017", "+0.50", "1.00", "within"]
    assert text.startswith("# A table\n") and len({len(line) for line in text.splitlines()[2:]}) == 1
    assert "70.00" not in text and "not attempted: needs another tool" in text
    assert r"A\_1 & error & 8.00 & 8.50 & 7.00 to 10.00 & 1017 & +0.50 & 1.00 & within \\" in tex
    assert tex.count(r" \\") == len(rows) + 1 and r"95 \% interval" in tex


def test_a_table_that_cannot_be_read_is_an_error(tmp_path, results):
    with pytest.raises(UsageError, match="no published table 'nothing-like-it'"):
        open_table("nothing-like-it")
    with pytest.raises(UsageError, match="expected the columns row, figure"):
        open_table(write_table(tmp_path / "a", columns=COLUMNS[:-1]))
    with pytest.raises(UsageError, match=r"published\.csv:2: could not convert"):
        open_table(write_table(tmp_path / "b", [("A", "x", "many", "", "error", "rows: 1", "", "yes", "yes")]))
    with pytest.raises(UsageError, match="unit 'share' or source of ours 'rows' is not known"):
        open_table(write_table(tmp_path / "c", [("A", "x", "", "", "share", "rows: 1", "", "yes", "yes")]))
    wrong = [("A", "x", "", "", "error", "rows: nonsense = 1", "", "yes", "yes")]
    with pytest.raises(DataError, match="is not understood"):
        compare(open_table(write_table(tmp_path / "d", wrong)), {"": results})
    unknown = [("A", "x", "", "", "error", "compute: nothing", "", "yes", "yes")]
    with pytest.raises(DataError, match="no computation 'nothing'"):
        compare(open_table(write_table(tmp_path / "e", unknown)), {"": results})


@pytest.mark.parametrize("key", keys())
def test_the_tables_at_hand_are_well_formed(key):
    table = open_table(key)

    assert table.figures and (table.folder / "README.md").is_file()
    for figure in table.figures:
        name = figure.words.split()[0]
        assert figure.kind != "compute" or name in FUNCTIONS or ":" in name
        assert figure.kind != "stored" or name in stored.FUNCTIONS
        assert figure.published is None or figure.source
        assert figure.tolerance is None or figure.published is not None
    assert any(figure.quick for figure in table.figures)


@pytest.mark.data
@pytest.mark.skipif(
    not (Path(os.environ.get("TESTBED_DATA", "")) / "cifar10.1-predictions").is_dir(),
    reason="TESTBED_DATA names no folder with cifar10.1-predictions/",
)
def test_cifar101_from_the_published_predictions():
    rows = compare(open_table("recht2018-cifar10.1"), {})

    assert passed(rows) and all(row.low <= row.value <= row.high for row in rows)
    assert len([row for row in rows if row.verdict == "within"]) >= 9


def test_clopper_pearson_by_its_definition():
    from scipy.stats import binom

    low, high = clopper_pearson(7, 50)
    assert binom.sf(6, 50, low) == pytest.approx(0.025) and binom.cdf(7, 50, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 10)[0] == 0 and clopper_pearson(10, 10)[1] == 1
