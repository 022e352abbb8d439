"""How far a robust number can be trusted: checks in the style of Carlini et al. 2019, as data with pass or fail.

`basic` reads the by-products every attack leaves (`AttackResult.audit`) and costs nothing. `full` runs further attacks:

    monotone          no fewer examples are fooled at twice the budget, no more at half of it
    reaches_zero      a budget as large as the box fools everything
    single_step       the iterated attack is at least as strong as one step
    more_effort       APGD with another loss, other steps and three targets finds at most `slack` more
    black_box         Square, which sees no gradient, finds next to nothing among what stands
    ce_margin_gap     cross-entropy and margin find alike: a saturated softmax hides gradients from the first only

A check that fails does not say that the model is weak; it says that the number is not to be believed yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from testbed import plugins
from testbed.perturb.attack import Attack, bind
from testbed.perturb.ledger import AttackResult


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
BASIC = {
    "zero_gradient_share": (0.01, "gradients are exactly zero: a saturated loss or a quantised input hides the slope"),
    "bad_gradient_share": (0.0, "gradients are NaN or infinite"),
    "softmax_as_logits": (
        0.0,
        "the outputs are probabilities: take the softmax off, or cross-entropy sees little slope",
    ),
    "randomised_forward": (1e-4, "the same input gives different logits: use eot= and the rand cascade"),
    "was_in_train_mode": (0.0, "the model came in training mode; it was attacked in evaluation mode"),
    "late_gain": (0.1, "the loss was still rising in the last quarter of the steps: give it more"),
}


def basic(result: AttackResult) -> list[Check]:
    """The checks that the by-products of one run allow.

    >>> from testbed.perturb.ledger import columns
    >>> names = ("success", "distance", "gradients", "queries", "first_step", "margin", "loss")
    >>> table = columns(**{n: [0] for n in (*names, "confidence_before", "confidence_after", "flags")})
    >>> [(c.name, c.passed) for c in basic(AttackResult(None, **table, audit={"zero_gradient_share": 0.4}))]
    [('zero_gradient_share', False)]
    """
    found = [Check(name, float(result.audit[name]), *BASIC[name]) for name in BASIC if name in result.audit]
    noise = result.audit.get("noise_success")
    if noise is not None:
        right = result.first_step != 0
        fooled = float(result.success[right].mean()) if right.any() else 0.0
        says = "random noise of the same size fools at least half as many as the attack"
        found.append(Check("noise_share", float(noise) / fooled if fooled else 0.0, 0.5, says))
    return found


def full(
    attack: Attack, model: Any, x: Any, y: Any, *, result: AttackResult | None = None, ids: Any = None, seed: int = 0,
    slack: float = 0.02, queries: int = 1000,
) -> list[Check]:  # fmt: skip
    """All checks of `attack` on this model and set; `result` saves running it once more.

    slack    share of the set by which a stronger attack may beat this one
    queries  of the black-box attack, on what still stands
    """

    def run(name: str, eps: float, rows: Any = slice(None), **params: Any) -> Any:
        plugin = plugins.read("attack", name)
        bound = bind(plugin, params, attack.norm, eps, attack.bounds)
        made = Attack(plugin, bound, attack.norm, eps, bounds=attack.bounds, batch=attack.batch)
        return made.run(model, x[rows], y[rows], ids=None if ids is None else np.asarray(ids)[rows], seed=seed).success

    result = attack.run(model, x, y, ids=ids, seed=seed) if result is None else result
    eps, stands = float(attack.eps or 0.0), ~result.success
    ce = {scale: run("apgd", eps * scale, steps=20) for scale in (0.5, 1.0, 2.0)}
    margin, whole = run("apgd", eps, steps=20, loss="margin"), run("apgd", largest(attack, x), steps=20, loss="margin")
    targeted = run("apgd_t", eps, targets=3, hopeless=True)
    black = run("square", eps, np.flatnonzero(stands), queries=queries) if stands.any() else np.zeros(0)
    best = result.success | ce[1.0] | margin | targeted
    rate = {scale: float(found.mean()) for scale, found in ce.items()}
    return [
        *basic(result),
        Check("monotone", max(rate[0.5] - rate[1.0], rate[1.0] - rate[2.0]), slack, "a larger budget fools fewer"),
        Check("reaches_zero", 1.0 - float(whole.mean()), 0.01, "a budget as large as the box leaves some standing"),
        Check(
            "single_step", float(run("fgsm", eps).mean() - result.success.mean()), slack, "one step beats the attack"
        ),
        Check(
            "more_effort", float(best.mean() - result.success.mean()), slack, "a stronger white-box attack finds more"
        ),
        Check("black_box", float(black.sum()) / len(result), slack / 2, "an attack without gradients finds more"),
        Check("ce_margin_gap", float(margin.mean() - ce[1.0].mean()), 0.05, "cross-entropy sees less than the margin"),
    ]


def largest(attack: Attack, x: Any) -> float:
    """A budget that reaches all of the box from anywhere."""
    pairs = np.asarray(attack.bounds, dtype=np.float64).reshape(-1, 2)
    width, features = float((pairs[:, 1] - pairs[:, 0]).max()), int(np.prod(tuple(x.shape[1:])))
    return width * {"linf": 1.0, "l2": math.sqrt(features), "l1": float(features)}[str(attack.norm)]
