"""What an audit asks, as numbers against limits; no model is run here. See `testbed.perturb.audit`.

A check that fails does not say that the model is weak; it says that the number is not to be believed yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from testbed.types import Array


@dataclass(frozen=True)
class Check:
    """One check: `value` against `limit`, passed where value <= limit."""

    name: str
    value: float
    limit: float
    says: str

    @property
    def passed(self) -> bool:
        """Whether the value is within its limit (NaN is not)."""
        return bool(self.value <= self.limit)


#: name of the by-product -> (limit, what a failure means)
BASIC: Final[Mapping[str, tuple[float, str]]] = {
    "zero_gradient_share": (0.01, "gradients are exactly zero: a saturated loss or a quantised input hides the slope"),
    "bad_gradient_share": (0.0, "gradients are NaN or infinite"),
    "no_answer_share": (0.0, "the model gives NaN or infinity for attacked images; they count as fooled"),
    "softmax_as_logits": (
        0.0,
        "the outputs are probabilities, or cross-entropy sees little slope: say `scores: probs` (or take log p)",
    ),
    "randomised_forward": (1e-4, "the same input gives different logits: use eot= and the rand cascade"),
    "was_in_train_mode": (0.0, "the model came in training mode; it was attacked in evaluation mode"),
    "late_gain": (0.1, "the loss was still rising in the last quarter of the steps: give it more"),
}

#: Checks of how well an attack could try; a worst case over attacks fails them only where all of its attacks do.
EFFORT: Final = frozenset({
    "zero_gradient_share", "bad_gradient_share", "late_gain", "single_step", "more_effort", "black_box", "transfer",
    "noise_share",
})  # fmt: skip

#: A softmax above this leaves less than a hundred float32 steps between it and 1.
SATURATED: Final = 1.0 - 6e-6

#: Attacks of the full tier by the name that `full_checks` knows them under.
HALF, SAME, DOUBLE, MARGIN, BOX, SINGLE, TARGETED, BLACK, TRANSFER = (
    "half", "same", "double", "margin", "box", "single", "targeted", "black", "transfer",
)  # fmt: skip


def basic_checks(by_products: Mapping[str, Any], success: Array, first_step: Array) -> list[Check]:
    """The checks that the by-products of one run allow.

    success, first_step   of its ledger, `[n]`

    >>> [(c.name, c.passed) for c in basic_checks({"zero_gradient_share": 0.4}, np.array([True]), np.array([3]))]
    [('zero_gradient_share', False)]
    """
    found = [Check(name, float(by_products[name]), *BASIC[name]) for name in BASIC if name in by_products]
    noise = by_products.get("noise_success")
    if noise is not None:
        right = first_step != 0
        fooled = float(success[right].mean()) if right.any() else 0.0
        says = "random noise of the same size fools at least half as many as the attack"
        found.append(Check("noise_share", float(noise) / fooled if fooled else 0.0, 0.5, says))
    return found


def full_checks(success: Array, runs: Mapping[str, Array], confidence: Array, slack: float = 0.02) -> list[Check]:
    """The checks that further attacks on the same examples allow; a check whose attack is not there is not made.

    success   bool `[n]`, of the attack that is audited
    runs      name of a further attack (HALF ... TRANSFER) -> its success, bool `[n]`; BLACK and TRANSFER are only
              looked at where the audited attack failed
    confidence  float `[n]`, the largest probability before the attack: cross-entropy and margin differ on any net of
              low confidence, and that hides nothing, so their gap is counted where the softmax is saturated
    slack     share of the set by which a stronger attack may beat this one
    """
    n = len(success)
    rate = {name: float(found.mean()) if n else 0.0 for name, found in runs.items()}
    own = float(success.mean()) if n else 0.0
    checks = []
    if {HALF, SAME, DOUBLE} <= rate.keys():
        worst = max(rate[HALF] - rate[SAME], rate[SAME] - rate[DOUBLE])
        checks.append(Check("monotone", worst, slack, "a larger budget fools fewer"))
    if BOX in rate:
        checks.append(Check("reaches_zero", 1.0 - rate[BOX], 0.01, "a budget as large as the box leaves some standing"))
    if SINGLE in rate:
        checks.append(Check("single_step", rate[SINGLE] - own, slack, "one step beats the attack"))
    if stronger := [runs[name] for name in (SAME, MARGIN, TARGETED) if name in runs]:
        best = np.logical_or.reduce([success, *stronger])
        checks.append(Check("more_effort", float(best.mean()) - own, slack, "a stronger white-box attack finds more"))
    for name, what, says in (
        (BLACK, "black_box", "an attack without gradients finds more"),
        (TRANSFER, "transfer", "images made on another model find more"),
    ):
        if name in runs:
            checks.append(Check(what, float((runs[name] & ~success).mean()), slack / 2, says))
    if {MARGIN, SAME} <= rate.keys():
        missed = runs[MARGIN] & ~runs[SAME] & (confidence > SATURATED)
        says = "a saturated softmax hides from cross-entropy what the margin sees"
        checks.append(Check("ce_margin_gap", float(missed.mean()) if n else 0.0, 0.05, says))
    return checks


def failed(checks: Iterable[Check]) -> list[str]:
    """The names of the checks that failed."""
    return [check.name for check in checks if not check.passed]
