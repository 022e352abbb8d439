"""Which part of a cascade fooled how many: counts by hand, and runs that do not say it."""

import pyarrow as pa
import pyarrow.parquet as pq

from testbed.report.fooled import what_fooled
from testbed.report.load import read_run
from testbed.types import RESULTS, RESULTS_VERSION, SAMPLES, SAMPLES_VERSION, arrow_schema

#: condition -> (first_step, success, fooled_by) of its examples
SETS = {
    "autoattack linf 0.1": [(0, True, None), (4, True, "autoattack:apgd-ce"), (9, True, "autoattack:apgd-ce"),
                            (80, True, "autoattack:square"), (-1, False, None)],
    "pgd linf 0.1": [(0, True, None), (2, True, "pgd"), (-1, False, None)],
    "pgd linf 0.1 on detector:msp": [(1, True, "pgd:one"), (1, True, "pgd:two")],
    "worst linf 0.1": [(2, True, "pgd")],
    "clean": [(None, None, None)],
}  # fmt: skip

_BUDGET = {"norm": "linf", "eps": 0.1}
CONDITIONS = {
    "autoattack linf 0.1": {"kind": "attack", **_BUDGET, "victim": "model"},
    "pgd linf 0.1": {"kind": "attack", **_BUDGET, "victim": "model"},
    "pgd linf 0.1 on detector:msp": {"kind": "attack", **_BUDGET, "victim": "detector:msp"},
    "worst linf 0.1": {"kind": "worst", **_BUDGET, "victim": "model"},
    "clean": {"kind": "clean"},
}


def write(folder, columns):
    rows = [
        {"dataset": "d", "model": "m", "seed": 0, "condition": name, "id": i, "first_step": step, "success": success,
         "fooled_by": by}
        for name, examples in SETS.items()
        for i, (step, success, by) in enumerate(examples)
    ]  # fmt: skip
    schema = arrow_schema({name: kind for name, kind in SAMPLES.items() if name in columns}, SAMPLES_VERSION)
    table = pa.Table.from_pylist([{k: v for k, v in row.items() if k in columns} for row in rows], schema=schema)
    results = pa.Table.from_pylist([{"condition": name.split()[0], "metric": "accuracy", **about}
                                    for name, about in CONDITIONS.items()],
                                   schema=arrow_schema(RESULTS, RESULTS_VERSION))  # fmt: skip
    pq.write_table(results, folder / "results.parquet")
    pq.write_table(table, folder / "samples.parquet")
    (folder / "plan.json").write_text('{"name": "r"}')
    return read_run(folder)


def test_counts_by_hand(tmp_path):
    found = {one["condition"]: one for one in what_fooled(write(tmp_path, set(SAMPLES)))}
    assert set(found) == {"autoattack linf 0.1", "worst linf 0.1"}
    cascade = found["autoattack linf 0.1"]
    assert cascade["parts"] == {"autoattack:apgd-ce": 2, "autoattack:square": 1}
    assert (cascade["n"], cascade["before"], cascade["standing"]) == (5, 1, 1)


def test_samples_that_do_not_say_it_and_no_samples_have_none(tmp_path):
    assert what_fooled(write(tmp_path, set(SAMPLES) - {"fooled_by"})) == []
    (tmp_path / "samples.parquet").unlink()
    assert what_fooled(read_run(tmp_path)) == []
