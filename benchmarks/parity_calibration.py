"""Largest differences between calibrators and metrics and the packages of the field, as a Markdown table.

    python benchmarks/parity_calibration.py

Runs each method on one set (3,000 fitted, 2,000 scored, 10 classes, twice too sharp) beside netcal, probmetrics,
scikit-learn, betacal, torchmetrics, uncertainty-calibration, relplot and MAPIE where they can be imported; versions as
in tests/golden/make_calibration_golden.py. The
NLL on the fitted split says which of two that differ is nearer to its optimum, where the NLL is what both minimise.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from bench_calibration import Logits, data, softmax

Z, Y = data(5000, 10)
FIT, TEST = slice(0, 3000), slice(3000, None)
P = softmax(Z)


def ours(name: str, **params: Any) -> np.ndarray:
    from testbed import plugins

    return np.asarray(plugins.read("calibrator", name).build(**params).fit(Z[FIT], Y[FIT]).probs(Z))


def sklearn(method: str) -> np.ndarray:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    from testbed.calibration.inputs import log_probs
    from testbed.calibration.platt import log_odds

    x = Z if method == "temperature" else log_odds(log_probs(Z))  # one against the rest: the scores that ours takes
    cal = CalibratedClassifierCV(FrozenEstimator(Logits(Z.shape[1])), method=method)
    return np.asarray(cal.fit(x[FIT], Y[FIT]).predict_proba(x))


def probmetrics(name: str) -> np.ndarray:
    from probmetrics.calibrators import ETSCalibrator, VectorScalingCalibrator, get_calibrator

    special = {"ets": lambda: ETSCalibrator(loss="mse"), "vector": VectorScalingCalibrator}
    cal = special[name]() if name in special else get_calibrator(name)
    return np.asarray(cal.fit(P[FIT], Y[FIT]).predict_proba(P))


def netcal(module: str, name: str, **params: Any) -> np.ndarray:
    import importlib

    cal = getattr(importlib.import_module(f"netcal.{module}"), name)(**params)
    return np.asarray(cal.fit(P[FIT], Y[FIT]).transform(P))


CALIBRATORS: dict[tuple[str, str], tuple[Callable[[], np.ndarray], Callable[[], np.ndarray]]] = {
    ("temperature", "scikit-learn"): (lambda: ours("temperature"), lambda: sklearn("temperature")),
    ("temperature", "netcal"): (lambda: ours("temperature"), lambda: netcal("scaling", "TemperatureScaling")),
    ("temperature", "probmetrics"): (lambda: ours("temperature"), lambda: probmetrics("temp-scaling")),
    ("vector", "probmetrics"): (lambda: ours("vector"), lambda: probmetrics("vector")),
    ("platt", "scikit-learn"): (lambda: ours("platt"), lambda: sklearn("sigmoid")),
    ("isotonic", "scikit-learn"): (lambda: ours("isotonic"), lambda: sklearn("isotonic")),
    ("isotonic", "netcal"): (lambda: ours("isotonic"), lambda: netcal("binning", "IsotonicRegression")),
    ("isotonic", "probmetrics"): (lambda: ours("isotonic"), lambda: probmetrics("isotonic")),
    ("histogram", "netcal"): (
        lambda: ours("histogram", bins=10),
        lambda: netcal("binning", "HistogramBinning", bins=10),
    ),
    ("bbq", "netcal"): (lambda: ours("bbq"), lambda: netcal("binning", "BBQ")),
    ("enir", "netcal"): (lambda: ours("enir"), lambda: netcal("binning", "ENIR")),
    ("beta", "netcal"): (lambda: ours("beta"), lambda: netcal("scaling", "BetaCalibration")),
    ("ets", "probmetrics"): (lambda: ours("ets"), lambda: probmetrics("ets")),
    ("svs", "probmetrics"): (lambda: ours("svs"), lambda: probmetrics("svs")),
    ("sms", "probmetrics"): (lambda: ours("sms"), lambda: probmetrics("sms")),
}


def metrics() -> Iterator[tuple[str, str, Callable[[], float], Callable[[], float]]]:
    """Name, package, ours and theirs."""
    from sklearn.metrics import brier_score_loss, log_loss

    from testbed import metrics as m

    p, y = P[TEST], Y[TEST]
    top, right = p.max(axis=1), (p.argmax(axis=1) == y).astype(float)

    def torchmetrics(norm: str) -> float:
        import torch
        from torchmetrics.functional.classification import multiclass_calibration_error as error

        return float(error(torch.from_numpy(p), torch.from_numpy(y), num_classes=10, n_bins=15, norm=norm))

    def nc(name: str) -> float:
        import netcal.metrics

        return float(getattr(netcal.metrics, name)(15).measure(p, y))

    def uc(name: str, **more: Any) -> float:
        import calibration

        return float(getattr(calibration, name)(p, y, **more))

    def mapie(name: str) -> float:
        from mapie.metrics import calibration

        return float(getattr(calibration, name)(right.astype(int), top))

    def relplot() -> float:
        import relplot

        return float(relplot.smECE(top, right))

    yield "ece torchmetrics", "torchmetrics", lambda: m.ece(p, y, 15, "torchmetrics"), lambda: torchmetrics("l1")
    yield "mce torchmetrics", "torchmetrics", lambda: m.mce(p, y, 15, "torchmetrics"), lambda: torchmetrics("max")
    yield "ece netcal", "netcal", lambda: m.ece(p, y, 15, "netcal"), lambda: nc("ECE")
    yield "mce netcal", "netcal", lambda: m.mce(p, y, 15, "netcal"), lambda: nc("MCE")
    yield "ece kumar", "uncertainty-calibration", lambda: m.ece(p, y, 15, "kumar"), lambda: uc("get_ece", num_bins=15)
    yield "debiased_ece l2", "uncertainty-calibration", lambda: m.debiased_ece(p, y, 15), lambda: uc(
        "get_top_calibration_error", p=2, debias=True
    )  # fmt: skip
    yield "smooth_ece", "relplot", lambda: m.smooth_ece(p, y), relplot
    yield "ks_test p", "MAPIE", lambda: m.ks_test(p, y).p_value, lambda: mapie("kolmogorov_smirnov_p_value")
    yield "kuiper_test p", "MAPIE", lambda: m.kuiper_test(p, y).p_value, lambda: mapie("kuiper_p_value")
    yield "spiegelhalter z", "MAPIE", lambda: m.spiegelhalter(p, y).statistic, lambda: mapie("spiegelhalter_statistic")
    yield "nll", "scikit-learn", lambda: m.nll(p, y), lambda: float(log_loss(y, p))
    yield "brier", "scikit-learn", lambda: m.brier(p, y), lambda: float(brier_score_loss(y, p, scale_by_half=False))


def main() -> None:
    from testbed.metrics import nll

    warnings.simplefilter("ignore")
    print("| method | reference | largest difference | ours | theirs |\n| --- | --- | --- | --- | --- |")
    for (name, package), (one, other) in CALIBRATORS.items():
        try:
            a, b = one(), other()
        except Exception as error:  # a peer that is absent or refuses the data is a row of the table
            print(f"| {name} | {package} | not run: {type(error).__name__}: {str(error)[:80]} | | |", flush=True)
            continue
        b = b / b.sum(axis=1, keepdims=True)
        losses = f"fit NLL {nll(a[FIT], Y[FIT]):.6f} | fit NLL {nll(b[FIT], Y[FIT]):.6f}"
        print(f"| {name} | {package} | {np.abs(a - b)[TEST].max():.1e} | {losses} |", flush=True)
    for name, package, mine, theirs in metrics():
        try:
            a, b = mine(), theirs()
        except Exception as error:  # as above
            print(f"| {name} | {package} | not run: {type(error).__name__}: {str(error)[:80]} | | |", flush=True)
            continue
        print(f"| {name} | {package} | {abs(a - b):.1e} | {a:.6f} | {b:.6f} |", flush=True)


if __name__ == "__main__":
    main()
