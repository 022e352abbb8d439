"""Writes calibration.json: what the field's own packages give on one small set, for tests that do not install them.

Run it in an environment of its own that has this package and

    netcal==1.4.0 torchmetrics==1.9.0 uncertainty-calibration==0.1.4 relplot==1.0.3 mapie==1.6.0 probmetrics==1.3.0
    betacal==1.1.0 venn-abers==1.5.4 torch==2.13.0 pytorch-minimize numba

as `python tests/golden/make_calibration_golden.py`. Inputs are written with the results, so the tests do not depend on
the random stream. Values are float64 unless a package computes in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

K = 4


def inputs() -> dict[str, Any]:
    """Over-confident logits, labels, a test set; rounded so that the file is small and exact."""
    rng = np.random.default_rng(7)
    z = np.round(2.5 * rng.normal(size=(400, K)), 2)
    soft = np.exp(z / 1.8 + np.arange(K) / 5)
    soft /= soft.sum(axis=1, keepdims=True)
    y = np.minimum((soft.cumsum(axis=1) < rng.random((400, 1))).sum(axis=1), K - 1)
    return {"logits": z[:300], "labels": y[:300], "test": z[300:]}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def edge_probs(p: np.ndarray) -> np.ndarray:
    """Probabilities that are multiples of 1/10, so that many confidences lie on bin edges, some of them at 1."""
    tenths = np.floor(10 * p).astype(int)
    tenths[np.arange(len(p)), p.argmax(axis=1)] += 10 - tenths.sum(axis=1)
    return tenths / 10


def edge_labels(edges: np.ndarray) -> np.ndarray:
    """Labels that make bins err both ways, without which every binning gives one value: right at even tenths only."""
    best = edges.argmax(axis=1)
    even = np.round(10 * edges.max(axis=1)).astype(int) % 2 == 0
    return np.where(even, best, (best + (np.arange(len(best)) % 4 > 0)) % K)


def metrics(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    import calibration as uc
    import torch
    from netcal.metrics import ECE, MCE
    from torchmetrics.functional.classification import multiclass_calibration_error

    edges = edge_probs(p)
    found: dict[str, Any] = {}
    for name, q, labels in (("smooth", p, y), ("edges", edges, edge_labels(edges))):
        tensor, target = torch.tensor(q), torch.tensor(labels)
        for bins in (5, 10, 15):
            found[f"ece netcal {name} {bins}"] = ECE(bins).measure(q, labels)
            found[f"mce netcal {name} {bins}"] = MCE(bins).measure(q, labels)
            found[f"ece kumar {name} {bins}"] = uc.get_ece(q, labels, num_bins=bins)
            for norm, metric in (("l1", "ece"), ("max", "mce")):
                found[f"{metric} torchmetrics {name} {bins}"] = multiclass_calibration_error(
                    tensor, target, num_classes=K, n_bins=bins, norm=norm
                )
    return {name: float(value) for name, value in found.items()} | other_metrics(p, y)


def other_metrics(p: np.ndarray, y: np.ndarray) -> dict[str, float]:
    import calibration as uc
    import relplot
    from mapie.metrics import calibration as mapie

    top, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(int)
    width = uc.lower_bound_scaling_top_ce(p, y, p=2, debias=True, num_bins=4, binning_scheme=uc.get_equal_prob_bins)
    return {
        "debiased l2 width 4": float(width),
        "smooth": float(relplot.smECE(top, right.astype(float))),
        "ks p": float(mapie.kolmogorov_smirnov_p_value(right, top)),
        "kuiper p": float(mapie.kuiper_p_value(right, top)),
        "spiegelhalter z": float(mapie.spiegelhalter_statistic(right, top)),
    }


def calibrators(z: np.ndarray, y: np.ndarray, test: np.ndarray) -> dict[str, Any]:
    from netcal.binning import HistogramBinning
    from netcal.scaling import TemperatureScaling
    from probmetrics.calibrators import ETSCalibrator, get_calibrator

    p, q = softmax(z), softmax(test)
    found = {
        "temperature netcal": TemperatureScaling().fit(p, y).transform(q),
        "histogram netcal 10": HistogramBinning(bins=10).fit(p, y).transform(q),
    }
    for ours, theirs in (("temperature", "temp-scaling"), ("svs", "svs"), ("sms", "sms"), ("isotonic", "isotonic")):
        found[f"{ours} probmetrics"] = get_calibrator(theirs).fit(p, y).predict_proba(q)
    found["ets probmetrics"] = ETSCalibrator(loss="mse").fit(p, y).predict_proba(q)
    return {name: np.asarray(value, dtype=np.float64).round(7).tolist() for name, value in found.items()} | binary(
        p, y, q
    )


def binary(p: np.ndarray, y: np.ndarray, q: np.ndarray) -> dict[str, Any]:
    """One-class-against-the-rest curves of class 0, before any normalisation."""
    from betacal import BetaCalibration
    from venn_abers import VennAbers

    target = (y == 0).astype(int)
    beta = BetaCalibration(parameters="abm").fit(p[:, [0]], target).predict(q[:, [0]])
    va = VennAbers()
    va.fit(np.stack([1 - p[:, 0], p[:, 0]], axis=1), target)
    merged, _ = va.predict_proba(np.stack([1 - q[:, 0], q[:, 0]], axis=1))
    curves = {"beta betacal": beta, "venn_abers package": merged[:, 1]}
    return {name: np.asarray(value, dtype=np.float64).round(7).tolist() for name, value in curves.items()}


def main() -> None:
    data = inputs()
    p = softmax(data["logits"])
    edges = edge_probs(p)
    data |= {"edges": edges, "edge_labels": edge_labels(edges)}
    golden = {
        "inputs": {name: value.tolist() for name, value in data.items()},
        "metrics": metrics(p, data["labels"]),
        "calibrators": calibrators(data["logits"], data["labels"], data["test"]),
    }
    Path(__file__).with_name("calibration.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
