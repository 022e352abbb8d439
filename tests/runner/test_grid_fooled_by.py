"""samples.parquet says which attack, and which part of a cascade, first fooled an example."""

import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize("curve", [False, True])
def test_fooled_by_is_the_attack_and_its_part_alone_in_a_curve_and_in_the_worst_case(tiny, runs, curve):
    cascade = {"use": "autoattack", "steps": 5, "queries": 30}
    tiny["conditions"] = ["clean", {"attack": ["fgsm", cascade], "norm": "linf", "eps": [0.05, 0.1], "curve": curve}]
    finished = runs(tiny)
    assert finished.outcome.ok, finished.outcome.errors()
    samples = pq.read_table(finished.folder / "samples.parquet").to_pylist()

    def of(condition):
        return {s["id"]: s for s in samples if s["condition"] == condition}

    for eps in ("0.05", "0.1"):
        fgsm, auto, worst = of(f"fgsm linf {eps}"), of(f"autoattack linf {eps}"), of(f"worst linf {eps}")
        parts = [s["fooled_by"] for s in auto.values()]
        assert "autoattack:apgd-ce" in parts
        assert set(parts) <= {None} | {f"autoattack:{name}" for name in ("apgd-ce", "apgd-t", "square", "fab-t")}
        for i, s in worst.items():
            for one in (s, fgsm[i], auto[i]):
                assert (one["fooled_by"] is not None) == (one["success"] and one["first_step"] > 0)
            assert s["fooled_by"] == (fgsm[i]["fooled_by"] or auto[i]["fooled_by"])
        assert {s["fooled_by"] for s in fgsm.values()} == {None, "fgsm"}
    assert all(s["fooled_by"] is None for s in of("clean").values())
