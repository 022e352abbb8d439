"""A number that is not defined is no failure: it says so, and neither `ok` nor in red."""

from testbed.report.table import number
from testbed.report.terminal import cell_text


def test_a_row_without_a_value_whose_job_went_well_is_undefined():
    cell = number({"status": "ok", "value": None, "flags": "more than half stand at the largest budget"})
    assert (cell.status, cell.failed, cell_text(cell, stacked=False).plain) == ("undefined", False, "undefined")
    assert number({"status": "failed", "value": None}).failed
    assert number({"status": "ok", "value": 0.5}).status == "ok"
