"""Choosing a detector's hyper-parameters on a named tuning set, never on the sets that are scored.

Published numbers depend on such a choice (OpenOOD calls it automatic parameter search): every combination of a sweep is
fitted on the fit split and the one with the highest AUROC between the ID calibration split and a tuning OOD set wins,
ties going to the earlier combination. `Tuned` says what was tuned on what, for the row. Sweeps as published are in
sweeps.json.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from testbed import plugins
from testbed.errors import DataError, UsageError, nearest
from testbed.metrics.ood import auroc
from testbed.types import Outputs


@dataclass(frozen=True)
class Trial:
    """One combination: its parameters, and its AUROC on the tuning sets or why it has none."""

    params: Mapping[str, Any]
    auroc: float | None
    error: str = ""


@dataclass(frozen=True)
class Tuned:
    """The winner (`params`, all others at their defaults), the set it was tuned on, and every trial in order."""

    detector: str
    params: Mapping[str, Any]
    tuned_on: str
    auroc: float
    trials: tuple[Trial, ...]


@cache
def sweeps() -> Mapping[str, Mapping[str, Sequence[Any]]]:
    """Published sweeps by detector: parameter -> values.

    >>> sweeps()["react"]["percentile"]
    [85, 90, 95, 99]
    """
    text = files("testbed.detection").joinpath("sweeps.json").read_text(encoding="utf-8")
    found: Mapping[str, Mapping[str, Sequence[Any]]] = json.loads(text)["sweeps"]
    return found


def tune(
    detector: str,
    fit: Outputs,
    inside: Outputs,
    outside: Outputs,
    *,
    tuning_set: str,
    scored_sets: Iterable[str],
    sweep: Mapping[str, Sequence[Any]] | None = None,
) -> Tuned:
    """The best combination of a sweep.

    fit         outputs of the split that the detector is fitted on
    inside      ID outputs to choose by (the calibration split, not the test split)
    outside     OOD outputs to choose by; `tuning_set` is their name
    scored_sets names of the OOD sets that will be scored: `tuning_set` must not be one of them
    sweep       parameter -> values; None: the published one

    A combination that cannot be fitted (k beyond the bank, dim beyond the features) is a trial with its error. Raises
    UsageError where the tuning set is scored or there is no sweep, DataError where no combination could be fitted.
    """
    if tuning_set in set(scored_sets):
        raise UsageError(
            f"{detector}: {tuning_set!r} is scored, so it cannot choose hyper-parameters; name another tuning set"
        )
    if sweep is None and detector not in sweeps():
        raise UsageError(
            f"{detector}: no published sweep; give one, or tune one of these: {nearest(detector, sweeps())}"
        )
    chosen = sweeps()[detector] if sweep is None else sweep
    best, trials = search(plugins.read("detector", detector), {}, chosen, fit, inside, outside)
    return Tuned(detector, best.params, tuning_set, float(best.auroc or 0.0), trials)


def search(
    plugin: plugins.Plugin,
    base: Mapping[str, Any],
    sweep: Mapping[str, Sequence[Any]],
    fit: Outputs,
    inside: Outputs,
    outside: Outputs,
) -> tuple[Trial, tuple[Trial, ...]]:
    """The best trial and all of them, in order; `base` holds the parameters that are not swept. As `tune` otherwise."""
    trials = []
    for values in itertools.product(*sweep.values()):
        params = dict(zip(sweep, values, strict=True))
        try:
            built = plugin.build(**plugin.validate({**base, **params}))
            fitted = built.fit(fit) if plugin.facts["fitted_on"] else built
            trials.append(Trial(params, auroc(fitted.score(inside), fitted.score(outside))))
        except (DataError, UsageError) as error:
            trials.append(Trial(params, None, str(error)))
    scored = [trial for trial in trials if trial.auroc is not None]
    if not scored:
        where = f"{plugin.name}: none of {len(trials)} combinations could be fitted"
        raise DataError(f"{where}; the first: {trials[0].error}")
    return max(scored, key=lambda trial: trial.auroc or 0.0), tuple(trials)
