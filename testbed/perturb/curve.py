"""Security curves from one sweep, and the worst case over attacks.

The sweep goes from the largest budget down, each example at its own pace; see `testbed.perturb.descent` for what that
means for the price and for the curve.
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

    eps        float `[b]`, rising; fooled bool `[b n]`, at each budget
    distance   float `[n]`, smallest distance at which an image of the sweep fools: 0 wrong before, infinite never
    gradients, queries of the whole sweep
    """

    eps: Array
    fooled: Array
    distance: Array
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
        """Lower median of the smallest distance at which an image of the sweep fools; infinite where half stand."""
        return float(np.sort(self.distance)[(len(self.distance) - 1) // 2])


def sweep(
    at: Callable[[float], Attack], epsilons: Sequence[float], model: Any, x: Any, y: Any,
    *, ids: Any = None, seed: int = 0,
) -> Curve:  # fmt: skip
    """The curve of an attack; `at(eps)` is the attack with that budget."""
    from testbed.perturb import unit
    from testbed.perturb.descent import descend

    rising, width = np.unique(np.asarray(epsilons, dtype=np.float64)), 1.0
    attacks = [at(float(eps)) for eps in rising]
    if (inside := unit.inside(attacks, model, x, y)) is not None:
        attacks, model, x = inside.attacks, inside.box, inside.u
        width = 1.0 if attacks[0].norm == "l0" else inside.width
    descent = descend(attacks, model, x, y, ids=ids, seed=seed)
    counts, stood = descent.victim.counts, descent.stood.cpu().numpy()
    fooled = np.arange(len(rising))[:, None] > stood
    reach = width * descent.reach.cpu().numpy()
    return Curve(rising, fooled, reach, round(float(counts.gradients.sum())), round(float(counts.queries.sum())))


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
