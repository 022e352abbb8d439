"""Terminal, Markdown and LaTeX: every number is there, nothing runs over the edge, nothing becomes markup."""

import io
import re

import pytest
from rich.console import Console

from testbed.report import brief, latex, markdown, terminal
from testbed.report.load import read_run
from testbed.report.table import Number, spell, tables

WIDTHS = (220, 120, 80, 50, 40)


def printed(run, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(run, console, brief=False)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def run(synthetic_run):
    return read_run(synthetic_run)


@pytest.mark.parametrize("width", WIDTHS)
def test_terminal_fits_and_shows_every_value(run, width) -> None:
    text = printed(run, width)
    assert max(map(len, text.splitlines())) <= width
    shown = re.findall(r"-?\d+\.\d{3}(?![\d,\]])", re.sub(r"\[.*?\]", "", text))
    wanted = [spell(r["value"]) for r in run.rows if r["value"] is not None]
    assert sorted(shown) == sorted(wanted)
    assert len(re.findall(r"^ *\S*.*\bfailed\b", text, re.MULTILINE)) >= 3


@pytest.mark.parametrize("width", WIDTHS)
def test_terminal_says_why_a_cell_failed(run, width) -> None:
    text = " ".join(printed(run, width).split())
    assert "no value for standard, pgd linf 0.3: failed: PluginViolation: left the ball" in text


def test_terminal_of_a_run_without_rows(tmp_path) -> None:
    (tmp_path / "plan.json").write_text('{"name": "empty [red]"}')
    assert printed(read_run(tmp_path), 80) == "empty [red]: no result yet\n"


def test_a_name_is_no_rich_markup(write_run, tmp_path) -> None:
    run = read_run(write_run(tmp_path / "r", models=("[red]net[/red]",), images=False))
    assert "[red]net[/red]" in printed(run, 200)


def test_markdown_is_a_table_with_equal_rows(run) -> None:
    blocks = [
        [line for line in block.splitlines() if line.startswith("|")]
        for block in markdown.markdown(run).split("### ")[1:]
    ]
    assert len(blocks) == 2
    for lines in blocks:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(cells) == 1
    assert len(blocks[0]) == 2 + 2 * 3 and len(blocks[1]) == 2 + 13 * 2


def test_markdown_escapes_names(write_run, tmp_path) -> None:
    run = read_run(write_run(tmp_path / "r", models=("a|b<script>_x_",), images=False))
    text = markdown.markdown(run)
    assert "<script>" not in text and "a\\|b&lt;script&gt;\\_x\\_" in text


def test_markdown_cells() -> None:
    assert markdown.cell(Number(0.5, 0.4, 0.6)) == "0.500 [0.400, 0.600]"
    assert markdown.cell(Number(None, status="failed")) == "*failed*" and markdown.cell(None) == ""


def test_latex_rows_have_as_many_cells_as_columns(run) -> None:
    for block in latex.latex(run).split("\\begin{table}")[1:]:
        columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", block)[1]
        assert set(columns) == {"l", "r"}
        for line in re.search(r"\\midrule\n(.*?)\\bottomrule", block, re.DOTALL)[1].strip().splitlines():
            assert len(re.findall(r"(?<!\\)&", line)) == len(columns) - 1 and line.endswith(r"\\")


def test_latex_environments_balance_and_no_character_is_a_command(write_run, tmp_path) -> None:
    run = read_run(write_run(tmp_path / "r", models=("50%_of $x^2$ & {y} \\end{table} #~",), images=False))
    text = latex.latex(run)
    assert text.count(r"\begin{table}") == text.count("\\end{table}\n") == 3 + 1
    assert r"50\%\_of \$x\textasciicircum{}2\$ \& \{y\} \textbackslash{}end\{table\} \#\textasciitilde{}" in text


def test_latex_head_spans_conditions(run) -> None:
    detection = tables(run.rows)[1]
    text = latex.render(detection)
    assert r"\multicolumn{2}{c}{scrambled-patches}" in text and r"\cmidrule(lr){4-5} \cmidrule(lr){6-7}" in text


def test_a_run_of_many_numbers_is_shortened_and_says_so(run, monkeypatch) -> None:
    monkeypatch.setattr(terminal, "MANY", 100)
    console = Console(file=io.StringIO(), width=160)
    terminal.show(run, console)
    # 9 metrics rows of each model on clean data, 3 of each other condition, 8 numbers of detection on clean data
    assert f"{2 * (9 + 6 * 3 + 8)} of 230 numbers" in console.file.getvalue()
    assert "fog s3" in console.file.getvalue() and "--table terminal" in console.file.getvalue()


def test_conditions_go_down_where_that_is_shorter(run) -> None:
    (quality, _) = tables(run.rows)
    long = quality.long()
    assert long.stub == ("model", "condition", "calibrator") and long.columns == (
        ("", "accuracy"),
        ("", "ece"),
        ("", "nll"),
    )
    assert long.rows[:4] == (
        ("standard", "clean", "none"),
        ("standard", "clean", "temperature"),
        ("standard", "clean", "isotonic"),
        ("standard", "fog s1", "none"),
    )
    assert set(long.cells.values()) == set(quality.cells.values())


def test_what_has_no_column_in_the_brief_has_a_line(synthetic_run) -> None:
    run = read_run(synthetic_run)
    area = {
        **next(r for r in run.rows if r["condition"] == "pgd"),
        "condition": "pgd",
        "eps": None,
        "group": None,
        "label": "pgd",
    }
    area |= {"metric": "robust_area", "value": 0.25, "ci_low": 0.2, "ci_high": 0.3, "status": "ok"}
    (found,) = brief.rest([*run.rows, area])
    assert found is area
    lines = {tuple(cells) for cells in zip(*(c.cells for c in brief.rest_table([found]).columns), strict=True)}
    assert {line[2:] for line in lines} == {("robust_area", "0.250 [0.200, 0.300]")}
    assert len(brief.table([*run.rows, area]).rows) == len(brief.table(run.rows).rows)
