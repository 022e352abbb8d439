"""Calibrators and metrics beside their peers: seconds, peak memory, convergence, and the ratio to each peer present.

    python benchmarks/bench_calibration.py              10,000 x 10 and 50,000 x 100
    python benchmarks/bench_calibration.py --quick      10,000 x 10 only

Each measurement runs in a process of its own with one thread; fit and predict together, best of three at 10,000 x 10,
one run at 50,000 x 100; memory is the peak resident size above what imports and data hold (Linux; nan elsewhere).
Peers (netcal, probmetrics, scikit-learn, torchmetrics, relplot) are run when they can be imported. Bars are the
project's own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SIZES = {"10k x 10": (10_000, 10), "50k x 100": (50_000, 100)}
OURS = (
    "temperature", "vector", "matrix", "dirichlet", "platt", "isotonic", "irm", "beta", "histogram", "bbq", "spline",
    "ets", "svs", "sms", "scaling_binning", "top_label", "pts", "gp", "venn_abers",
)  # fmt: skip
SLOW_AT_LARGE = {"matrix", "sms", "bbq", "beta", "pts", "gp", "venn_abers"}
PEERS = {
    "temperature": ("sklearn", "netcal", "probmetrics"),
    "vector": ("probmetrics",),
    "isotonic": ("sklearn", "netcal"),
    "histogram": ("netcal",),
    "platt": ("sklearn",),
    "ets": ("probmetrics",),
    "svs": ("probmetrics",),
    "sms": ("probmetrics",),
}
BARS = {
    ("temperature", "10k x 10"): 0.010,
    ("temperature", "50k x 100"): 0.4,
    ("vector", "50k x 100"): 3.0,
    ("dirichlet", "50k x 100"): 3.0,
    ("svs", "50k x 100"): 3.0,
    ("isotonic", "50k x 100"): 0.7,
    ("ece, 1,000 replicates", "10k x 10"): 0.3,
}
METRICS = ("ece", "classwise_ece", "smooth_ece", "ece, 1,000 replicates")
METRIC_PEERS = {"ece": ("torchmetrics", "netcal"), "smooth_ece": ("relplot",)}


def data(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model of useful accuracy, twice too sharp, and its labels."""
    rng = np.random.default_rng(0)
    z = 1.2 * rng.normal(size=(n, k))
    z[np.arange(n), rng.integers(0, k, n)] += rng.exponential(4, n)
    p = softmax(z * (1 + 0.2 * rng.random(k)) + 0.2 * rng.normal(size=k))
    y = np.minimum((p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), k - 1)
    y[:k] = np.arange(k)  # some peers refuse a split without one of the classes
    return 2 * z, y


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def ours(name: str, z: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    from testbed import plugins

    cal = plugins.read("calibrator", name).build().fit(z, y)
    cal.probs(z)
    state = cal.state()
    return {"gradient": state.get("gradient"), "converged": state["converged"]}


def peer(package: str, name: str, z: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """One peer's fit and predict; probabilities where it takes those."""
    p = softmax(z)
    if package == "probmetrics":
        from probmetrics.calibrators import ETSCalibrator, VectorScalingCalibrator, get_calibrator

        special = {"ets": ETSCalibrator, "vector": VectorScalingCalibrator}
        cal = special[name]() if name in special else get_calibrator({"temperature": "temp-scaling"}.get(name, name))
        cal.fit(p, y).predict_proba(p)
    elif package == "netcal":
        from netcal.binning import HistogramBinning, IsotonicRegression
        from netcal.scaling import TemperatureScaling

        kinds = {"temperature": TemperatureScaling, "histogram": HistogramBinning, "isotonic": IsotonicRegression}
        kinds[name]().fit(p, y).transform(p)
    else:
        sklearn_calibrate(name, z, y)
    return {}


def sklearn_calibrate(name: str, z: np.ndarray, y: np.ndarray) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.frozen import FrozenEstimator

    method = {"temperature": "temperature", "isotonic": "isotonic", "platt": "sigmoid"}[name]
    CalibratedClassifierCV(FrozenEstimator(Logits(z.shape[1])), method=method).fit(z, y).predict_proba(z)


class Logits:
    """A scikit-learn classifier whose decision values are its input."""

    _estimator_type = "classifier"

    def __init__(self, k: int) -> None:
        self.k, self.classes_ = k, np.arange(k)

    def get_params(self, deep: bool = True) -> dict[str, int]:
        return {"k": self.k}

    def set_params(self, **_: Any) -> Logits:
        return self

    def fit(self, x: np.ndarray, y: np.ndarray) -> Logits:
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags("classifier", TargetTags(required=True), classifier_tags=ClassifierTags(), input_tags=InputTags())

    def __sklearn_is_fitted__(self) -> bool:
        return True


def our_metric(name: str, p: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    from testbed import metrics, plugins

    if name == "ece, 1,000 replicates":
        plugins.read("metric", "ece").build()(p, y, draws=metrics.Draws(0, len(y), 1000))
    else:
        getattr(metrics, name)(p, y)
    return {}


def peer_metric(package: str, p: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    if package == "torchmetrics":
        import torch
        from torchmetrics.functional.classification import multiclass_calibration_error

        multiclass_calibration_error(torch.from_numpy(p), torch.from_numpy(y), num_classes=p.shape[1], n_bins=15)
    elif package == "netcal":
        from netcal.metrics import ECE

        ECE(15).measure(p, y)
    else:
        import relplot

        relplot.smECE(p.max(axis=1), (p.argmax(axis=1) == y).astype(float))
    return {}


def resident(reset: bool = False) -> float:
    """Peak resident size of this process in MB since the last reset, which brings it down to what is held now."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    return next(int(row.split()[1]) for row in status.read_text().splitlines() if row.startswith("VmHWM")) / 1024


def worker(kind: str, package: str, name: str, size: str) -> None:
    """One measurement in this process, as a JSON line."""
    warnings.simplefilter("ignore")
    n, k = SIZES[size]
    small = data(200, k)
    z, y = data(n, k)
    calls: dict[tuple[str, bool], Callable[[np.ndarray, np.ndarray], dict[str, Any]]] = {
        ("calibrator", True): lambda a, b: ours(name, a, b),
        ("calibrator", False): lambda a, b: peer(package, name, a, b),
        ("metric", True): lambda a, b: our_metric(name, a, b),
        ("metric", False): lambda a, b: peer_metric(package, a, b),
    }
    call = calls[kind, package == "testbed"]
    if kind == "metric":
        small, z = (softmax(small[0]), small[1]), softmax(z)
    call(*small)
    before = resident(reset=True)
    seconds, found = [], {}
    for _ in range(3 if n < 20_000 else 1):
        start = time.perf_counter()
        found = call(z, y)
        seconds.append(time.perf_counter() - start)
    peak = resident() - before
    print(json.dumps({"seconds": min(seconds), "mb": peak} | found))


def measure(kind: str, package: str, name: str, size: str) -> dict[str, Any] | None:
    """The measurement in a fresh process with one thread; None where it cannot be made."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    command = [sys.executable, __file__, "--worker", kind, package, name, size]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | one, check=False)
    if done.returncode:
        print(f"    {package} {name} {size}: failed ({done.stderr.strip().splitlines()[-1][:100]})", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def show(kind: str, name: str, size: str, peers: tuple[str, ...]) -> None:
    found = measure(kind, "testbed", name, size)
    if found is None:
        return
    bar = BARS.get((name, size))
    verdict = "" if bar is None else f"bar {bar:g} s: {'met' if found['seconds'] <= bar else 'MISSED'}"
    gradient = "" if found.get("gradient") is None else f"gradient {found['gradient']:.0e}"
    line = f"{name:22} {size:10} {found['seconds']:8.4f} s {found['mb']:6.0f} MB  {gradient:15} {verdict:22}"
    for package in peers:
        other = measure(kind, package, name, size) if importlib.util.find_spec(package) else None
        if other is not None:
            line += f"  {package} {other['seconds']:.4f} s ({found['seconds'] / other['seconds']:.2f} x)"
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="*", help="names of calibrators or metrics")
    parser.add_argument("--worker", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return
    for size in list(SIZES)[: 1 if args.quick else 2]:
        for name in OURS:
            if (not args.only or name in args.only) and not (size == "50k x 100" and name in SLOW_AT_LARGE):
                show("calibrator", name, size, PEERS.get(name, ()))
        for name in METRICS:
            if (not args.only or name in args.only) and not (size == "50k x 100" and "replicates" in name):
                show("metric", name, size, METRIC_PEERS.get(name, ()))


if __name__ == "__main__":
    main()
