"""How far a robust number can be trusted: checks in the style of Carlini et al. 2019, as data with pass or fail.

`basic` reads the by-products every attack leaves (`AttackResult.audit`) and costs nothing. `full` runs further attacks:

    monotone          no fewer examples are fooled at twice the budget, no more at half of it
    reaches_zero      a budget as large as the box fools everything
    single_step       the iterated attack is at least as strong as one step
    more_effort       APGD with another loss, other steps and three targets finds at most `slack` more
    black_box         Square, which sees no gradient, finds next to nothing among what stands
    ce_margin_gap     cross-entropy and margin find alike: a saturated softmax hides gradients from the first only

In a grid, `audit: full` plans the same attacks as jobs, and adds `transfer`: images made on another model of the grid
find next to nothing among what stands. What the numbers are held against is in `testbed.perturb.checks`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from testbed import plugins
from testbed.perturb import checks
from testbed.perturb.attack import Attack, bind
from testbed.perturb.checks import Check
from testbed.perturb.ledger import AttackResult


def basic(result: AttackResult) -> list[Check]:
    """The checks that the by-products of one run allow.

    >>> from testbed.perturb.ledger import columns
    >>> from testbed.types import LEDGER
    >>> table = columns(**{name: [0] for name in LEDGER})
    >>> [(c.name, c.passed) for c in basic(AttackResult(None, **table, audit={"zero_gradient_share": 0.4}))]
    [('zero_gradient_share', False)]
    """
    return checks.basic_checks(result.audit, result.success, result.first_step)


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
    eps, stands = float(attack.eps or 0.0), np.flatnonzero(~result.success)
    black = np.zeros(len(result), dtype=bool)
    if len(stands):
        black[stands] = run("square", eps, stands, queries=queries)
    runs = {
        checks.HALF: run("apgd", eps / 2, steps=20),
        checks.SAME: run("apgd", eps, steps=20),
        checks.DOUBLE: run("apgd", eps * 2, steps=20),
        checks.MARGIN: run("apgd", eps, steps=20, loss="margin"),
        checks.BOX: run("apgd", largest(attack, x), steps=20, loss="margin"),
        checks.SINGLE: run("fgsm", eps),
        checks.TARGETED: run("apgd_t", eps, targets=3, hopeless=True),
        checks.BLACK: black,
    }
    return [*basic(result), *checks.full_checks(result.success, runs, result.confidence_before, slack)]


def largest(attack: Attack, x: Any) -> float:
    """A budget that reaches all of the box from anywhere."""
    pairs = np.asarray(attack.bounds, dtype=np.float64).reshape(-1, 2)
    width, features = float((pairs[:, 1] - pairs[:, 0]).max()), int(np.prod(tuple(x.shape[1:])))
    return width * {"linf": 1.0, "l2": math.sqrt(features), "l1": float(features)}[str(attack.norm)]
