"""The quick runs of the tables that need no training or little of it, on the real data, end to end."""

import pytest

from testbed.papers.book import open_table

QUICK = ("he2016-cifar10", "cifair2020", "obadinma2024", "openood-v1.5-cifar10", "wongkolter2018")


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("key", QUICK)
def test_no_judged_figure_of_a_quick_run_misses(testbed_command, tmp_path, key) -> None:
    """Every figure of the quick run has a value, and those judged lie within their tolerance."""
    needs = open_table(key).needs
    gone = [name for name in needs.absent() if not name.startswith(("openood", "weights/openood"))]
    if gone:
        pytest.skip(f"TESTBED_DATA has no {gone[0]}")
    where = ["--executor", "serial", "--store", tmp_path / "store", "--out", tmp_path / "run"]

    ended = testbed_command("reproduce", key, "--quick", *where)

    assert ended.code == 0, ended.out + ended.err
    assert "missed" not in ended.out and "failed" not in ended.out
