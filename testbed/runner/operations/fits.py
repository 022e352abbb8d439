"""Jobs that fit and apply calibrators and detectors on cached outputs. None of them needs torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.calibration.base import Calibrator
from testbed.calibration.held_out import NOT_CHECKED, WORSE, cross_validated
from testbed.calibration.inputs import CalibrationWarning, LooksLikeProbabilities
from testbed.errors import DataError
from testbed.runner.operations import access
from testbed.store import Store, Writer
from testbed.types import Array, Float64, Job, Outputs


def calibrate(job: Job, store: Store, writer: Writer) -> None:
    """Fit a calibrator on the outputs of the calibration split, and on unlabelled ones of a target set if it asks."""
    recipe = job.recipe["calibrator"]
    plugin = access.code("calibrator", recipe, store)
    calibrator = plugin.build(**recipe["params"])
    needs = tuple(getattr(calibrator, "needs", ()))
    data = access.outputs(store, access.one(job, "outputs"), features="features" in needs)
    flags = []
    if not (good := data.answered).all() and good.any():
        flags = [f"fitted_without={int((~good).sum())}"]  # examples whose logits are NaN
        data = data.take(good)
    given: dict[str, Any] = {"features": data.features} if "features" in needs else {}
    if "unlabelled" in needs:
        given["unlabelled"] = access.unlabelled(store, access.one(job, "target"), features="features" in needs)
    with warnings.catch_warnings():
        for told in (LooksLikeProbabilities, CalibrationWarning):  # the rows' flags say it
            warnings.simplefilter("ignore", told)
        fitted = calibrator.fit(data.logits, data.labels, **given)
        checked, found = held_out(lambda: plugin.build(**recipe["params"]), data, given)
    access.write_state(writer, fitted.state())
    flags += list(fitted.flags()) if isinstance(fitted, Calibrator) else []
    writer.meta.update(n=len(data), flags=flags + checked, held_out=found)


def held_out(make: Callable[[], Any], data: Outputs, given: Mapping[str, Any]) -> tuple[list[str], Mapping[str, Any]]:
    """Flags and figures of the cross-validated fit. Where a fold cannot be fitted, the fit on all examples stands."""
    try:
        found = cross_validated(make, data.logits, np.asarray(data.labels), **given)
    except Exception as error:  # whatever a user's method raises on four fifths of the data
        return [NOT_CHECKED], {"error": f"{type(error).__name__}: {error}"}
    return [WORSE] if found.worse else [], found._asdict()


def bank(job: Job, store: Store, writer: Writer) -> None:
    """Fit a detector on the outputs of the split it asks for (or on nothing)."""
    recipe = job.recipe["detector"]
    tuned = store.require(access.one(job, "tuned")).meta["tuned"] if job.inputs.get("tuned") else {}
    detector = access.code("detector", recipe, store).build(**{**recipe["params"], **tuned.get("params", {})})
    writer.meta["tuned"] = tuned
    if not job.inputs.get("outputs"):
        writer.meta.update(state={}, fitted=False)
        return
    data = detector_view(job, store, access.one(job, "outputs"), detector)
    access.write_state(writer, detector.fit(data).state())
    writer.meta.update(fitted=True, n=len(data))


def detect(job: Job, store: Store, writer: Writer) -> None:
    """Score a set of outputs with a fitted detector; scores are larger for more out-of-distribution."""
    detector = fitted_detector(job.recipe["detector"], access.one(job, "bank"), store)
    writer.meta["tuned"] = store.require(access.one(job, "bank")).meta.get("tuned", {})
    data = detector_view(job, store, access.one(job, "outputs"), detector)
    scores = np.asarray(detector.score(data), dtype=np.float64)
    write_scores(writer, scores, data.ids if data.ids is not None else np.arange(len(scores)))


def fitted_detector(recipe: Mapping[str, Any], bank: str, store: Store) -> Any:
    """A detector in its fitted state, with the parameters that tuning chose where it was tuned."""
    tuned = store.require(bank).meta.get("tuned", {}).get("params", {})
    detector = access.code("detector", recipe, store).build(**{**recipe["params"], **tuned})
    state = access.read_state(store, bank)
    return detector.restore(state) if state else detector


def tune(job: Job, store: Store, writer: Writer) -> None:
    """Choose a detector's parameters by AUROC between the calibration split and the tuning set."""
    from testbed.detection.tuning import search

    recipe = job.recipe["detector"]
    plugin = access.code("detector", recipe, store)
    bare = plugin.build(**recipe["params"])
    inside, outside = (detector_view(job, store, access.one(job, role), bare) for role in ("id", "ood"))
    fit = detector_view(job, store, access.one(job, "outputs"), bare) if job.inputs.get("outputs") else inside
    best, trials = search(plugin, recipe["params"], job.recipe["sweep"], fit, inside, outside)
    writer.meta["tuned"] = {"params": dict(best.params), "auroc": best.auroc}
    writer.meta["trials"] = [{"params": dict(t.params), "auroc": t.auroc, "error": t.error} for t in trials]


def write_scores(writer: Writer, scores: Float64, ids: Array) -> None:
    """Keep a detector's scores by example id, and count those that are not finite."""
    writer.tensors("scores", {"scores": scores, "ids": ids})
    writer.meta.update(n=len(scores), nan=int(np.isnan(scores).sum()), infinite=int(np.isinf(scores).sum()))


def detector_view(job: Job, store: Store, digest: str, detector: Any) -> Outputs:
    """The outputs as a detector sees them: through the calibrator where there is one and it reads logits."""
    consumes = tuple(detector.consumes)
    read = "features" in consumes or access.needs_features(job.recipe.get("calibrator"), store)
    data = access.outputs(store, digest, features=read)
    if "features" in consumes and data.features is None:
        reason = store.require(digest).meta.get("no_features")
        raise DataError(f"detector {type(detector).__name__} reads features and this model has none: {reason}")
    if "calibrator" not in job.recipe:
        return data
    return replace(data, logits=calibrated_logits(*fitted(job, store), data))


def fitted(
    job: Job, store: Store, role: str = "calibrator", recipe: Mapping[str, Any] | None = None
) -> tuple[Any, Mapping[str, Any]]:
    """The calibrator of a job, in its fitted state, and its recipe."""
    recipe = recipe or job.recipe["calibrator"]
    calibrator = access.code("calibrator", recipe, store).build(**recipe["params"])
    if job.inputs.get(role):
        calibrator = calibrator.restore(access.read_state(store, access.one(job, role)))
    return calibrator, recipe


def fit_flags(job: Job, store: Store) -> str:
    """What rows under a job's calibrator say of its fit, joined by ";"; empty where nothing was fitted."""
    fits = job.inputs.get("calibrator") or ()
    return ";".join(flag for digest in fits for flag in store.require(digest).meta.get("flags", ()))


def probabilities(calibrator: Any, data: Outputs) -> Float64:
    """float64 `[n k]` probabilities under a fitted calibrator (an unfitted `none` gives softmax).

    An example without an answer (NaN logits) is a failed one: it gets probability 0 for its label and the same for all
    other classes, so that it is wrong under every metric and under none of them missing.
    """
    good = data.answered
    some = data if good.all() else data.take(good)
    extra = {"features": some.features} if "features" in getattr(calibrator, "needs", ()) else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LooksLikeProbabilities)  # the rows say so: `scores.model_doubts`
        probs: Float64 = calibrator.probs(some.logits, **extra) if len(some) else np.zeros((0, data.logits.shape[1]))
    if some is data:
        return probs
    whole = np.full((len(data), data.logits.shape[1]), 1.0 / (data.logits.shape[1] - 1))
    bad = np.flatnonzero(~good)
    whole[bad, np.asarray(data.labels)[bad].clip(0)] = 0.0
    whole[good] = probs
    return whole


def calibrated_logits(calibrator: Any, recipe: Mapping[str, Any], data: Outputs) -> Array:
    """What a detector reads instead of the logits: the calibrator's own logits, else log p + logsumexp(raw logits).

    Probabilities fix logits only up to a constant an example. Bare log probabilities would have a log-sum-exp of 0
    everywhere, so the constant is chosen to keep the free energy of the raw logits: energy scores then say what they
    said before, and softmax gives the calibrator's probabilities. A row without an answer stays one: NaN.
    """
    good = data.answered
    if not good.all():
        whole = np.full(np.shape(data.logits), np.nan)
        whole[good] = calibrated_logits(calibrator, recipe, data.take(good)) if good.any() else 0.0
        return whole
    if hasattr(calibrator, "logits"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LooksLikeProbabilities)  # the rows say so
            return np.asarray(calibrator.logits(data.logits), dtype=np.float64)
    log_p = np.log(np.clip(probabilities(calibrator, data), np.finfo(np.float64).tiny, 1.0))
    return log_p + np.logaddexp.reduce(np.asarray(data.logits, dtype=np.float64), axis=1, keepdims=True)
