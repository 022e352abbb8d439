"""Square's search, then gradient steps from where it ended: the last stage of the fast tier (`autoattack`).

    round 1   all images: Square, 100 queries; from its image 20 steps of auto-PGD on the margin max_{i != y} z_i - z_y
    round 2   the near misses, on whom round 1 took away at least three quarters of the margin: 1000 queries, 50 steps

Where a network hides its gradient near the clean image, an ascent from there gets stuck; Square's image, at the corners
of the ball, has one that leads on. Few queries are enough for that, and the margin left after both tells near images
from far ones better than an ascent alone does. Round 2 repeats the windows of round 1. All is per example;
the rounds are constants, chosen on the MNIST nets `cnn_a`, `fgsm_rs` and `kw_scaled` of benchmarks/attack_subjects.py.

The two parts are Andriushchenko et al. 2020 and Croce and Hein 2020; putting them together so is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from testbed.perturb.geometry import budget_of

from .ascent import Ascent, Standing, climb
from .losses import margin, towards
from .square import Square

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

#: Queries and gradient steps of each round.
ROUNDS = ((100, 20), (1000, 50))
#: A near miss has at most this share of its clean margin left.
NEAR = 0.25


@dataclass(frozen=True)
class SquareAscent:
    """Both rounds within a budget. Square needs images: anything but `[n c h w]` is left as it is."""

    eps: float
    norm: Literal["linf", "l2"] = "linf"
    bounds: Any = (0.0, 1.0)

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        standing = Standing(x, y, model.held)
        if x.dim() != 4:
            return standing.found()
        far = NEAR * margin(model(x, rows=standing.rows), y)
        standing.spent = 1
        for number, (queries, steps) in enumerate(ROUNDS):
            rows = standing.rows
            if number:
                rows = rows[standing.loss[rows] >= far[rows]]
            if len(rows):
                self._round(model, standing, rows, rng.take(rows.cpu().numpy()), queries, steps)
        return standing.found()

    def _round(self, model: Victim, standing: Standing, rows: Tensor, rng: Any, queries: int, steps: int) -> None:
        x, y = standing.x, standing.y
        square = Square(budget_of(self.eps, rows), self.norm, queries, bounds=self.bounds)  # type: ignore[arg-type]
        search = square(model.take(rows), x[rows], y[rows], rng=rng)
        fooled = search.first_step >= 0
        standing.note(rows[fooled], search.x[fooled], search.first_step[fooled])
        standing.spent += queries
        ascent = Ascent(self.eps, self.norm, steps, bounds=self.bounds)
        climb(model, ascent, standing, rows[~fooled], search.x[~fooled], lambda at: towards("margin", y[at]))
        standing.spent += steps + 1
