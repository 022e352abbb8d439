"""DeepFool (Moosavi-Dezfooli et al. 2016): steps onto the nearest boundary of the linearised model until it is crossed.

Algorithm 2 of the paper, with f_k = z_k - z_y and w_k its gradient at the iterate, q the dual of p, r = 0 at first:

    class    l = the k of least |f_k| / |w_k|_q, among the likeliest `candidates` classes by clean logits, y being one
    step     r <- r + |f_l| / |w_l|_2^2 w_l          in l2
             r <- r + |f_l| / |w_l|_1 sign(w_l)      in linf
    iterate  the box applied to x + (1 + overshoot) r

As in the authors' code each iterate is overshot, not only the last, and the first that fools is the result, so that a
linear model is fooled in one step. The box, which the paper does not have, also bounds x + r: what a bound takes off
is not owed. A step is at least 1e-4 long, or an example on the boundary, where f_l = 0, would stay there for good; the
authors' code makes each step that much longer.

Nothing is drawn at random and all state is per example. The last iterate is evaluated by a forward pass alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from testbed.parameters import Checked, Count, NonNegative
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

#: The least length of a step, the range of inputs being 1.
LEAST = 1e-4


@dataclass(frozen=True)
class DeepFool(Checked):
    """DeepFool in l2 and linf.

    eps         budget; None = whatever distance it takes. It ends at the first image that fools either way
    candidates  classes looked at in each step, the label among them; each further one costs a gradient
    overshoot   how far beyond the linearised boundary, relative to the way to it
    target      as in `pgd`: the class t each example is sent to. The boundary is then that of t and the likeliest other
                class, f = z_t - max_{i != t} z_i, at each step, and only being given t counts (the paper has none)
    """

    eps: NonNegative | None = None
    norm: Literal["l2", "linf"] = "l2"
    steps: Count = 50
    candidates: Annotated[int, Ge(2)] = 10
    overshoot: NonNegative = 0.02
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2", "linf")
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "DeepFool: a simple and accurate method to fool deep neural networks",
        "Seyed-Mohsen Moosavi-Dezfooli and Alhussein Fawzi and Pascal Frossard", 2016, "CVPR", "1511.04599",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.steps < 1 or self.candidates < 2 or not self.overshoot >= 0:
            raise ValueError(
                "steps >= 1, candidates >= 2 and overshoot >= 0 are needed, "
                f"got {self.steps}, {self.candidates} and {self.overshoot}"
            )

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`. Draws for random targets only."""
        import torch

        from testbed.perturb.geometry import limits

        from .closest import Closest
        from .losses import ranked_targets

        low, high = limits(self.bounds, x, x.device)
        closest = Closest.aimed(self, model, x, y, rng)
        rows = torch.arange(len(x), device=x.device)
        aimed = closest.aim is not None
        others = y[:, None] if aimed else ranked_targets(model(x, rows=rows), y, self.candidates - 1)
        way, now = torch.zeros_like(x), x
        for step in range(self.steps):
            moves, stand = self._moves(model, closest, rows, now, others, step + 1)
            rows, others, way = rows[stand], others[stand], way[stand]
            if len(rows) == 0:
                return closest.found()
            x0 = x[rows]
            way = torch.clamp(x0 + way + moves, low, high) - x0
            now = torch.clamp(x0 + (1 + self.overshoot) * way, low, high)
        logits = model(now, rows=rows)
        fooled = closest.see(rows, now, logits, self.steps + 1)
        closest.offer(rows[~fooled], now[~fooled], logits[~fooled])
        return closest.found()

    def _moves(
        self, model: Victim, closest: Any, rows: Tensor, now: Tensor, others: Tensor, evaluation: int
    ) -> tuple[Tensor, Tensor]:
        """bool `[m]`, the rows not fooled at `now`, and the steps of those onto the nearest linearised boundary."""
        import torch

        from testbed.perturb.geometry import per_row

        from .losses import lead, margin

        aimed = closest.aim is not None
        rise = closest.rise(margin, rows) if aimed else lead(closest.y[rows], others[:, 0])
        slope, gap, logits = model.gradient(now, rise, rows=rows)
        stand = ~closest.see(rows, now, logits, evaluation)
        rows, now, others, slope, gap = (part[stand] for part in (rows, now, others, slope, gap))
        size = self._dual(slope)
        way = gap.abs() / size
        for other in others[:, 1:].unbind(1) if len(rows) else ():
            another, gap, _ = model.gradient(now, lead(closest.y[rows], other), rows=rows)
            its = self._dual(another)
            nearer = gap.abs() / its < way
            way, size = torch.where(nearer, gap.abs() / its, way), torch.where(nearer, its, size)
            slope = torch.where(per_row(nearer, slope), another, slope)
        unit = slope.sign() if self.norm == "linf" else slope / per_row(size, slope)
        return unit * per_row(way.clamp_min(LEAST), slope), stand

    def _dual(self, slope: Tensor) -> Tensor:
        """|w|_q of each row."""
        import torch

        from .hyperplane import DUAL

        size: Tensor = torch.linalg.vector_norm(slope.flatten(1), ord=DUAL[self.norm], dim=1)
        return size.clamp_min(1e-30)
