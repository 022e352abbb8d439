"""Runs of grids with calibrators that read unlabelled target data: what they are given, and that all go through."""

SHIFT = {"shift": "gaussian_noise", "severity": [1, 3]}
PROBE = """
import numpy as np

class Probe:
    needs = ("unlabelled",)

    def fit(self, logits, labels, *, unlabelled):
        told = unlabelled.labels is not None or unlabelled.groups is not None
        self.found = {"told": told, "rows": len(unlabelled.logits), "mean": float(unlabelled.logits.mean())}
        return self

    def state(self):
        return self.found

    def restore(self, state):
        self.found = state
        return self

    def probs(self, logits):
        if self.found["told"] or abs(float(logits.mean()) - self.found["mean"]) > 1e-6:
            raise ValueError(f"fitted on {self.found}")
        e = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(float)
        return e / e.sum(axis=1, keepdims=True)
"""


def test_labels_of_the_target_never_reach_a_calibrator(runs, tiny, look):
    (runs.folder / "probe.py").write_text(PROBE)
    tiny |= {"conditions": ["clean", SHIFT], "calibrators": [{"use": "./probe.py:Probe"}], "metrics": ["accuracy"]}

    finished = runs(tiny)

    assert [row["status"] for row in look.rows(finished)] == ["ok"] * 3, finished.table.column("error").to_pylist()


def test_all_of_them_run_from_a_grid(runs, tiny, look):
    names = ["transcal", "pseudo_target", "estimated_temperature", "bbse", "label_shift_em"]
    tiny |= {"conditions": ["clean", {"shift": "label_knock_out", "severity": 3}], "calibrators": ["none", *names]}
    tiny["detectors"], tiny["ood"] = ["msp", "knn"], ["uniform"]
    tiny["metrics"] = ["nll", "auroc"]

    rows = look.rows(runs(tiny))

    assert [row["error"] for row in rows if row["error"]] == []
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["calibrator"] for row in rows} == {"none", *names}


def test_what_a_fit_says_of_itself_is_in_its_rows(runs, tiny, look):
    tiny["data"][0]["calibration"] = 150
    tiny["models"][0]["train"]["epochs"] = 20
    tiny |= {"calibrators": ["none", "temperature", "matrix"], "conditions": ["clean"], "metrics": ["nll"]}

    rows = {row["calibrator"]: row for row in look.rows(runs(tiny))}

    assert "fit:worse_than_uncalibrated" in rows["matrix"]["flags"] and "fit:at_bound" in rows["matrix"]["flags"]
    assert rows["matrix"]["value"] > rows["none"]["value"]
    assert "fit:" not in rows["none"]["flags"] + rows["temperature"]["flags"]
