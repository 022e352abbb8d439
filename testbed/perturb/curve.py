"""Security curves from one sweep, and the worst case over attacks.

The sweep goes from the largest budget down. An example that stands at one budget is taken to stand at every smaller
one, so it is attacked in full once; an example that is fooled leaves each run early, and is not attacked again where
the image already found lies inside the smaller ball too. Draws do not depend on eps, so at each budget an example's run
is the run it would have alone; the curve differs from separate runs only where an attack fails at a budget and would
have succeeded at a smaller one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from testbed.perturb.attack import Attack
from testbed.perturb.ledger import AttackResult
from testbed.types import Array


@dataclass(frozen=True)
class Curve:
    """Robust accuracy over budgets.

    eps      float `[b]`, rising; `fooled` bool `[b n]`, at each budget
    spent    gradients and queries of the whole sweep
    """

    eps: Array
    fooled: Array
    gradients: int
    queries: int

    @property
    def robust_accuracy(self) -> Array:
        """float `[b]`, falling."""
        return np.asarray(1.0 - self.fooled.mean(axis=1))

    @property
    def area(self) -> float:
        """Area under the curve over [0, largest eps], trapezoids from the clean accuracy at 0, divided by that eps.

        The value at 0 is that of examples not wrong before any attack; a curve that starts there needs eps 0 in it.
        """
        return float(np.trapezoid(self.robust_accuracy, self.eps) / (self.eps[-1] - self.eps[0]))

    @property
    def median_distance(self) -> float:
        """The smallest budget of the sweep that fools half of the examples; infinite where none does."""
        half = self.robust_accuracy <= 0.5
        return float(self.eps[np.argmax(half)]) if half.any() else float("inf")


def sweep(
    at: Callable[[float], Attack], epsilons: Sequence[float], model: Any, x: Any, y: Any,
    *, ids: Any = None, seed: int = 0,
) -> Curve:  # fmt: skip
    """The curve of an attack; `at(eps)` is the attack with that budget."""
    rising = np.unique(np.asarray(epsilons, dtype=np.float64))
    ids = np.arange(len(x)) if ids is None else np.asarray(ids)
    fooled = np.zeros((len(rising), len(x)), dtype=bool)
    rows, distance = np.arange(len(x)), np.full(len(x), np.inf)
    gradients = queries = 0
    for level in range(len(rising) - 1, -1, -1):
        known = rows[distance[rows] <= rising[level]]
        asked = np.setdiff1d(rows, known)
        fooled[level, known] = True
        if len(asked):
            result = at(float(rising[level])).run(model, x[asked], y[asked], ids=ids[asked], seed=seed)
            fooled[level, asked] = result.success
            distance[asked] = np.where(result.success, result.distance, np.inf)
            gradients, queries = gradients + int(result.gradients.sum()), queries + int(result.queries.sum())
        rows = np.flatnonzero(fooled[level])
    return Curve(rising, fooled, gradients, queries)


def worst_case(results: Sequence[AttackResult]) -> AttackResult:
    """Per-example worst case over attacks on one set, in the order given.

    An example is fooled where any attack fooled it, and has the image and row of the first that did; a standing one has
    those of the attack with the highest cross-entropy. Costs are the sums; `audit["attack"]` is the index taken.
    """
    import torch

    if not results:
        raise ValueError("the worst case of no attacks is not defined; give at least one result")
    success = np.stack([one.success for one in results])
    loss = np.stack([one.loss for one in results])
    pick = np.where(success.any(axis=0), success.argmax(axis=0), loss.argmax(axis=0))
    at = np.arange(len(pick))
    table = {
        name: np.stack([values[name] for values in (one.ledger() for one in results)])[pick, at]
        for name in results[0].ledger()
    }
    for name in ("gradients", "queries"):
        table[name] = np.sum([one.ledger()[name] for one in results], axis=0)
    images = torch.stack([one.x for one in results])[torch.as_tensor(pick), torch.as_tensor(at)]
    return replace(results[0], x=images, audit={"attack": pick}, **table)
