"""A run folder made of drawn logits: the tables of a real run with its shapes, cheap enough for every test.

Two models x (clean, fog at three severities, pgd at three radii) x three calibrators, two detectors on two OOD sets,
and one attack that failed on one model. Values are computed from the drawn logits, so tables, samples and charts agree.
"""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from testbed.digest import digest
from testbed.types import JOBS, JOBS_VERSION, RESULTS, RESULTS_VERSION, SAMPLES, SAMPLES_VERSION, arrow_schema

CLASSES, N = 10, 200
CALIBRATORS = {"none": 1.0, "temperature": 2.2, "isotonic": 2.6}
DETECTORS = ("msp", "energy")
OOD = {"scrambled-patches": ("near", 1.6), "gaussian": ("far", 0.7)}
FAILED = "PluginViolation: left the ball: expected at most 0.3 (linf), got 0.31 on 12 of 200 examples <b>"
CONDITIONS = [
    {"condition": "clean", "kind": "clean"},
    *({"condition": "fog", "kind": "shift", "severity": float(s)} for s in (1, 3, 5)),
    *({"condition": "pgd", "kind": "attack", "norm": "linf", "eps": e, "victim": "model"} for e in (0.1, 0.2, 0.3)),
]


def label(row):
    """The condition as samples.parquet names it."""
    parts = [row["condition"]]
    parts += [f"s{row['severity']:g}"] if row.get("severity") is not None else []
    parts += [f"{row['norm']} {row['eps']:.4g}"] if row.get("eps") is not None else []
    return " ".join(parts)


def logits_of(model, condition, rng, labels):
    """float64 [n k]: overconfident logits whose margin shrinks with severity and (less on `adversarial`) with eps."""
    strength = 9.0 - 1.3 * condition.get("severity", 0.0)
    strength -= (40 if model == "standard" else 12) * condition.get("eps", 0.0)
    signal = np.where(labels >= 0, strength * rng.normal(0.8, 0.45, len(labels)), 0)[:, None]
    return rng.normal(0, 2.0, (len(labels), CLASSES)) + signal * (np.arange(CLASSES) == labels[:, None])


def softmax(z):
    """float64 [n k], rows summing to 1."""
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def measures(p, y):
    """metric -> (value, half width) from probabilities [n k] and labels [n]."""
    correct, confidence = p.argmax(1) == y, p.max(1)
    bins = np.minimum((confidence * 15).astype(int), 14)
    ece = sum(abs(correct[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in set(bins))
    accuracy = correct.mean()
    nll = -np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean()
    width = 1.96 * math.sqrt(accuracy * (1 - accuracy) / len(y))
    return {"accuracy": (accuracy, width), "ece": (ece, 0.02), "nll": (nll, 0.1)}


def area(inside, outside):
    """AUROC with ties counted half."""
    greater = (outside[:, None] > inside[None]).mean()
    return greater + 0.5 * (outside[:, None] == inside[None]).mean()


def scores_of(z):
    """detector -> score [n], larger = more out-of-distribution."""
    return {"msp": -softmax(z).max(1), "energy": -np.log(np.exp(z).sum(1))}


def write_run(folder, models=("standard", "adversarial"), n=N, images=True):
    """Write plan.json, results.parquet, samples.parquet, jobs.parquet and images/ into `folder`; returns it."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    results, samples, jobs = [], [], []
    for model in models:
        clean_scores = {}
        for condition in CONDITIONS:
            broken = model == models[0] and condition.get("eps") == 0.3
            rng = np.random.default_rng(len(label(condition)) + 7 * len(model))
            labels = rng.integers(0, CLASSES, n)
            z = logits_of(model, condition, rng, labels)
            results += cell_rows(model, condition, z, labels, broken)
            jobs.append(job_row(model, condition, broken))
            if not broken:
                samples += sample_rows("mnist5k", model, label(condition), z, labels)
                clean_scores[label(condition)] = (condition, scores_of(z))
        for name, (group, spread) in OOD.items():
            rng = np.random.default_rng(len(name))
            z = rng.normal(0, 1.0, (n, CLASSES)) * spread + (rng.random((n, CLASSES)) < 0.1) * spread * 3
            samples += sample_rows(name, model, "clean", z, np.full(n, -1))
            for condition, inside in clean_scores.values():
                results += ood_rows(model, condition, name, group, inside, scores_of(z))
    write(folder / "results.parquet", results, RESULTS, RESULTS_VERSION)
    write(folder / "samples.parquet", samples, SAMPLES, SAMPLES_VERSION)
    write(folder / "jobs.parquet", jobs, JOBS, JOBS_VERSION)
    plan = {
        "name": "synthetic",
        "grid": "experiments/synthetic.yaml",
        "provenance": {"testbed": "0.1.0", "python": "3.11.7", "packages": {"torch": "2.13.0"}},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    if images:
        write_images(folder / "images", models)
    return folder


def write(path, rows, columns, version):
    """Rows as parquet with the schema of testbed.types."""
    schema = arrow_schema(columns, version)
    filled = [{name: row.get(name) for name in columns} for row in rows]
    pq.write_table(pa.Table.from_pylist(filled, schema=schema), path)


def base_row(model, condition):
    """The columns every row of results.parquet has."""
    common = {
        "run": "synthetic",
        "protocol": "",
        "dataset": "mnist5k",
        "group": "",
        "n": N,
        "model": model,
        "variant": "",
        "train_seed": 0,
        "seed": 0,
    }
    return (
        common
        | condition
        | {
            "status": "ok",
            "error": None,
            "flags": "",
            "params": '[{"steps":40,"use":"pgd"}]' if "eps" in condition else None,
        }
    )


def cell_rows(model, condition, z, labels, broken):
    """The accuracy and calibration rows of one condition."""
    rows = []
    for calibrator, temperature in CALIBRATORS.items():
        for metric, (value, width) in measures(softmax(z / temperature), labels).items():
            row = base_row(model, condition) | {
                "calibrator": calibrator,
                "fit": "clean",
                "metric": metric,
                "n": len(labels),
            }
            row |= {
                "convention": "guo, 15 bins" if metric == "ece" else metric,
                "digest": digest([model, label(condition), calibrator, metric]),
            }
            row |= {"value": value, "ci_low": value - width, "ci_high": value + width}
            rows.append(
                row
                | (
                    {"value": None, "ci_low": None, "ci_high": None, "status": "failed", "error": FAILED}
                    if broken
                    else {}
                )
            )
    return rows


def ood_rows(model, condition, name, group, inside, outside):
    """The detection rows of one condition against one OOD set."""
    rows = []
    for detector in DETECTORS:
        value = area(inside[detector], outside[detector])
        threshold = np.quantile(outside[detector], 0.05)
        fpr = (inside[detector] >= threshold).mean()
        for metric, number, convention in (("auroc", value, "DeLong"), ("fpr95", fpr, "positive=ood, tpr=0.95")):
            row = base_row(model, condition) | {
                "group": group,
                "detector": detector,
                "ood_set": name,
                "ood_condition": "clean",
            }
            row |= {
                "metric": metric,
                "convention": convention,
                "value": number,
                "ci_low": max(0, number - 0.03),
                "ci_high": min(1, number + 0.03),
            }
            rows.append(row | {"digest": digest([model, label(condition), detector, name, metric])})
    return rows


def sample_rows(dataset, model, condition, z, labels):
    """A row an example, scores and confidences nested."""
    confidence = {name: softmax(z / t).max(1) for name, t in CALIBRATORS.items()}
    decision = {name: softmax(z / t).argmax(1) for name, t in CALIBRATORS.items()}
    scores, prediction = scores_of(z), z.argmax(1)
    attacked, wrong = condition.startswith("pgd"), prediction != labels
    return [
        {
            "dataset": dataset,
            "model": model,
            "train_seed": 0,
            "condition": condition,
            "seed": 0,
            "id": i,
            "label": int(labels[i]),
            "prediction": int(prediction[i]),
            "correct": bool(prediction[i] == labels[i]),
            "decision": [(name, int(d[i])) for name, d in decision.items()],
            "confidence": [(name, float(c[i])) for name, c in confidence.items()],
            "score": [(name, float(s[i])) for name, s in scores.items()],
            **({"success": bool(wrong[i]), "first_step": 3 if wrong[i] else -1} if attacked else {}),
            "fooled_by": f"pgd:{'first' if i % 3 else 'second'}" if attacked and wrong[i] else None,
        }
        for i in range(len(labels))
    ]


def job_row(model, condition, broken):
    """One finished (or failed) attack or forward job."""
    status = "failed" if broken else "done"
    return {
        "digest": digest([model, label(condition)]),
        "kind": condition["kind"],
        "label": f"{label(condition)} on {model}",
        "status": status,
        "attempts": 1,
        "seconds": 1.5,
        "forwards": 200,
        "error": FAILED if broken else None,
    }


def write_images(folder, models):
    """Two pairs a model and condition, as the runner keeps them."""
    from testbed.report.images import write_strip

    rng, rows = np.random.default_rng(0), []
    for model in models:
        for condition in CONDITIONS[1:]:
            for i in range(2):
                clean = (rng.random((14, 14, 1)) * 255).astype(np.uint8)
                perturbed = np.clip(clean + rng.normal(0, 30, clean.shape), 0, 255).astype(np.uint8)
                told = {"label": "7", "prediction": "3", "confidence": 0.61}
                place = {"model": model, "condition": label(condition), "id": i}
                rows.append(place | told | {"clean": clean, "perturbed": perturbed})
    write_strip(folder, rows)
