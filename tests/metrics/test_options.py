"""A misspelt option is another method: each Literal of a metric function is checked, the error names the choices."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pytest

import testbed.metrics as package
from testbed import metrics
from testbed.errors import DataError, UsageError
from testbed.metrics.options import one_of

P, Y = np.random.default_rng(0).dirichlet(np.ones(4), 40), np.arange(40) % 4
A, B = np.arange(5.0), np.arange(5.0) + 3

#: What each public function with such an option takes beside it.
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "ece": (P, Y), "mce": (P, Y), "equal_width": (P[:, 0], 5), "classwise_ece": (P, Y), "debiased_ece": (P, Y),
    "brier": (P, Y), "loss_split": (P, Y, lambda p, y, q: q), "fpr_at_tpr": (A, B), "fpr_interval": (A, B),
    "aupr": (A, B), "average_thresholded_confidence": (P, Y, P), "scores": (P,),
    "fit_robustness_line": ([0.5, 0.6], [0.4, 0.5]),
    "mean_error": ({},), "mean_flip_probability": ({},),
}  # fmt: skip
#: Not given by a user: what calls them has checked, or there is nothing to mistake.
INNER = {"bounds", "influence", "corrected", "scored", "check", "needs_levels", "chosen"}


def options(signature: Any) -> Iterator[str]:
    for name, hint in signature.items():
        if name != "return" and typing.get_origin(hint) is Literal:
            yield name


def functions() -> Iterator[tuple[str, Any, str]]:
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if function.__module__ == module.__name__ and not name.startswith("_") and name not in INNER:
                yield from ((name, function, option) for option in options(typing.get_type_hints(function)))


@pytest.mark.parametrize(("name", "function", "option"), functions(), ids=lambda v: v if isinstance(v, str) else "")
def test_functions_check_their_options(name: str, function: Any, option: str) -> None:
    with pytest.raises((DataError, UsageError), match=r"expected .* or |did you mean|known:"):
        function(*ARGUMENTS[name], **{option: "mistaken"})


def test_the_error_names_the_choices_and_the_nearest() -> None:
    with pytest.raises(DataError, match="debiased_ece: norm: expected 'l1' or 'l2', got 'L2'; did you mean 'l2'"):
        metrics.debiased_ece(P, Y, norm="L2")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="brier: scale: expected 'sum' or 'half', got 'mean'"):
        metrics.brier(P, Y, scale="mean")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="which: expected 15, 19 or 'all', got True"):
        one_of(True, Literal[15, 19, "all"], "which")
