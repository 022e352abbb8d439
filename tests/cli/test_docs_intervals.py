"""docs/intervals.md: its code prints what it shows, and its words for methods are those of the conventions."""

import contextlib
import io
import re
from pathlib import Path

import numpy as np

from testbed import plugins
from testbed.metrics import Draws

PAGE = (Path(__file__).parents[2] / "docs" / "intervals.md").read_text(encoding="utf-8")


def test_the_code_prints_what_the_page_shows() -> None:
    (code,), (shown,) = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S) for kind in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/intervals.md", "exec"), {})

    assert printed.getvalue() == shown


def test_every_word_for_a_method_is_in_a_convention_and_every_convention_has_one() -> None:
    table = PAGE.split("## What each one is")[1].split("\n\n")[1]
    words = re.findall(r"`([^`]+)`", " ".join(line.split("|")[3] for line in table.splitlines()[2:]))
    p, y = np.tile([[0.9, 0.1], [0.3, 0.7]], (20, 1)), np.tile([0, 1], 20)
    ok, groups = p.argmax(axis=1) == y, np.arange(40) % 2
    given = {"probs": (p, y), "confidence": (p[:, 0], ok), "scores": (p[:, 0], p[:, 1] + 1),
             "failures": (p[:, 0], p[:, 1] + 1, ok), "groups": (p, y, groups)}  # fmt: skip
    found = []
    for name in plugins.names("metric"):
        plugin = plugins.read("metric", name)
        if plugin.facts["needs"] in given:
            found.append(plugin.build()(*given[plugin.facts["needs"]], draws=Draws(0, 40, 10)).convention)

    assert all(any(word in one for one in found) for word in words if word != "no interval")
    unnamed = [one for one in found if not any(word in one for word in words)]
    assert all("p-value" in one or "unit normal" in one or "fpr + fnr" in one for one in unnamed), unnamed


def test_the_table_covers_but_for_what_it_marks() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.split("## Measured")[1].splitlines() if line.startswith("| ")][2:]
    cells = [cell.strip() for row in rows for cell in row[2:] if "/" in cell]

    assert len(cells) > 300
    assert all((float(cell.split("/")[0].strip("* ")) < 0.93) == cell.startswith("**") for cell in cells)
    assert sum(cell.startswith("**") for cell in cells) <= 0.03 * len(
        cells
    )  # chance, of 120 and 200 sets; the page has what more sets gave
