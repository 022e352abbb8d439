"""Metrics: pure functions in float64, and the same as plug-ins that give an `Estimate` with its interval.

    >>> from testbed import metrics
    >>> metrics.ece([[0.1, 0.9], [0.4, 0.6]], [1, 0], bins=10, convention="guo").__round__(6)
    0.35

Each name is loaded when it is first used; none needs torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.metrics.bootstrap import Draws as Draws
    from testbed.metrics.calibration_error import adaptive_ece as adaptive_ece
    from testbed.metrics.calibration_error import classwise_ece as classwise_ece
    from testbed.metrics.calibration_error import ece as ece
    from testbed.metrics.calibration_error import mce as mce
    from testbed.metrics.comparison import compare as compare
    from testbed.metrics.comparison import flips as flips
    from testbed.metrics.comparison import silent_regressions as silent_regressions
    from testbed.metrics.conditional import marginal_ece as marginal_ece
    from testbed.metrics.conditional import top_label_ece as top_label_ece
    from testbed.metrics.cumulative import ks_error as ks_error
    from testbed.metrics.cumulative import ks_test as ks_test
    from testbed.metrics.cumulative import kuiper_error as kuiper_error
    from testbed.metrics.cumulative import kuiper_test as kuiper_test
    from testbed.metrics.cumulative import spiegelhalter as spiegelhalter
    from testbed.metrics.debiased import debiased_ece as debiased_ece
    from testbed.metrics.decomposition import brier_decomposition as brier_decomposition
    from testbed.metrics.decomposition import brier_split as brier_split
    from testbed.metrics.decomposition import loss_split as loss_split
    from testbed.metrics.drift import alarm_quality as alarm_quality
    from testbed.metrics.drift import ks_drift as ks_drift
    from testbed.metrics.drift import label_drift as label_drift
    from testbed.metrics.drift import mmd_drift as mmd_drift
    from testbed.metrics.estimate import Estimate as Estimate
    from testbed.metrics.failure import augrc as augrc
    from testbed.metrics.failure import aurc as aurc
    from testbed.metrics.failure import eaurc as eaurc
    from testbed.metrics.families import holm as holm
    from testbed.metrics.kernels import canonical_ece as canonical_ece
    from testbed.metrics.kernels import skce as skce
    from testbed.metrics.kernels import skce_test as skce_test
    from testbed.metrics.ood import aupr as aupr
    from testbed.metrics.ood import auroc as auroc
    from testbed.metrics.ood import fpr_at_tpr as fpr_at_tpr
    from testbed.metrics.openset import autc as autc
    from testbed.metrics.openset import detection_error as detection_error
    from testbed.metrics.openset import failure_view as failure_view
    from testbed.metrics.openset import mean_auroc as mean_auroc
    from testbed.metrics.openset import oscr as oscr
    from testbed.metrics.openset import over_seeds as over_seeds
    from testbed.metrics.paired_tests import mcnemar as mcnemar
    from testbed.metrics.paired_tests import sign_flips as sign_flips
    from testbed.metrics.power import mcnemar_power as mcnemar_power
    from testbed.metrics.scores import accuracy as accuracy
    from testbed.metrics.scores import brier as brier
    from testbed.metrics.scores import nll as nll
    from testbed.metrics.scores import rbs as rbs
    from testbed.metrics.scores import wilson as wilson
    from testbed.metrics.selection import may_be_best as may_be_best
    from testbed.metrics.selection import pareto as pareto
    from testbed.metrics.selection import probability_best as probability_best
    from testbed.metrics.selective import coverage_at_risk as coverage_at_risk
    from testbed.metrics.sets import coverage as coverage
    from testbed.metrics.sets import coverage_by_size as coverage_by_size
    from testbed.metrics.sets import set_size as set_size
    from testbed.metrics.slices import by_slice as by_slice
    from testbed.metrics.smooth import smooth_ece as smooth_ece
    from testbed.metrics.tcal import tcal_test as tcal_test
    from testbed.metrics.unlabelled import average_confidence as average_confidence
    from testbed.metrics.unlabelled import average_thresholded_confidence as average_thresholded_confidence
    from testbed.metrics.unlabelled import difference_of_confidences as difference_of_confidences
    from testbed.metrics.unlabelled import disagreement_accuracy as disagreement_accuracy

#: Module -> the public names it is home to. No module has the name of a function, so none can shadow one.
_HOMES = {
    "bootstrap": ("Draws",),
    "estimate": ("Estimate",),
    "calibration_error": ("ece", "mce", "adaptive_ece", "classwise_ece"),
    "debiased": ("debiased_ece",),
    "conditional": ("marginal_ece", "top_label_ece"),
    "selective": ("coverage_at_risk",),
    "smooth": ("smooth_ece",),
    "cumulative": ("ks_error", "ks_test", "kuiper_error", "kuiper_test", "spiegelhalter"),
    "kernels": ("canonical_ece", "skce", "skce_test"),
    "tcal": ("tcal_test",),
    "decomposition": ("brier_decomposition", "brier_split", "loss_split"),
    "sets": ("coverage", "coverage_by_size", "set_size"),
    "unlabelled": (
        "average_confidence",
        "average_thresholded_confidence",
        "difference_of_confidences",
        "disagreement_accuracy",
    ),
    "comparison": ("compare", "flips", "silent_regressions"),
    "families": ("holm",),
    "paired_tests": ("mcnemar", "sign_flips"),
    "power": ("mcnemar_power",),
    "drift": ("alarm_quality", "ks_drift", "label_drift", "mmd_drift"),
    "selection": ("may_be_best", "pareto", "probability_best"),
    "slices": ("by_slice",),
    "scores": ("accuracy", "nll", "brier", "rbs", "wilson"),
    "ood": ("auroc", "fpr_at_tpr", "aupr"),
    "openset": ("autc", "detection_error", "failure_view", "mean_auroc", "oscr", "over_seeds"),
    "failure": ("aurc", "eaurc", "augrc"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'testbed.metrics' has no attribute {name!r}")
    return getattr(importlib.import_module(f"testbed.metrics.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOME)
