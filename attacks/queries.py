"""Attacks that see logits but no gradients: SPSA and one-pixel (`square` has a file of its own).

SPSA (Uesato et al. 2018) estimates the gradient of the margin from pairs x +- delta v with random signs v and follows
it with Adam inside the linf ball. One-pixel (Su et al. 2019) searches place and value of a few pixels by differential
evolution: a + 0.5 (b - c) without crossover, kept where the label's probability falls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Ge

from testbed.parameters import Checked, Count, NonNegative, Positive
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class SPSA(Checked):
    """Simultaneous perturbation stochastic approximation; `samples` evaluations a step, half of them at x - delta v.

    delta, learning_rate   as shares of the range of inputs
    """

    eps: NonNegative
    norm: Literal["linf"] = "linf"
    steps: Count = 100
    samples: Annotated[int, Ge(2)] = 128
    delta: Positive = 0.01
    learning_rate: Positive = 0.01
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf",)
    white_box: ClassVar = False
    streams: ClassVar = True
    reference: ClassVar = Paper(
        "Adversarial risk and the dangers of evaluating against weak attacks",
        "Jonathan Uesato and Brendan O'Donoghue and Pushmeet Kohli and Aaron van den Oord", 2018, "ICML", "1802.05666",
    )  # fmt: skip

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, forward and backward, at most."""
        return self.steps * (self.samples // 2 * 2 + 1), 0

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from testbed.perturb.geometry import confine, limits

        from .adam import Adam
        from .losses import margin
        from .tracker import Tracker

        low, high = limits(self.bounds, x, x.device)
        tracker, rows, now, adam = (
            Tracker(x, y, None, model.held),
            torch.arange(len(x), device=x.device),
            x,
            Adam(x, self.learning_rate),
        )
        for step in range(self.steps):
            estimate = self._estimate(model, now, y, rows, rng, step)
            now = confine(now + adam.step(estimate), x[rows], "linf", self.eps, low, high)
            logits = model(now, rows=rows)
            stand = tracker.see(rows, now, logits, margin(logits, y[rows]))
            rows, now, adam = rows[stand], now[stand], adam.keep(stand)
            if len(rows) == 0:
                break
        return tracker.found()

    def _estimate(self, model: Victim, x: Tensor, y: Tensor, rows: Tensor, rng: Any, step: int) -> Tensor:
        """The mean of (L(x + delta v) - L(x - delta v)) / (2 delta) v."""
        import torch

        from .losses import margin

        pairs = self.samples // 2
        draws = rng.take(rows.cpu().numpy()).uniform((pairs, *x.shape[1:]), name=f"signs{step}")
        signs = torch.from_numpy(draws).to(x).sub_(0.5).sign_()
        points = torch.cat([x[:, None] + self.delta * signs, x[:, None] - self.delta * signs], dim=1)
        many = rows.repeat_interleave(2 * pairs)
        loss = margin(model(points.flatten(0, 1), rows=many), y[many]).reshape(len(x), 2, pairs)
        slope = (loss[:, 0] - loss[:, 1]) / (2 * self.delta)
        return torch.einsum("mp,mp...->m...", slope, signs) / pairs


@dataclass(frozen=True)
class OnePixel(Checked):
    """A few pixels by differential evolution; eps counts changed values, so an RGB pixel takes 3 of it."""

    eps: NonNegative
    norm: Literal["l0"] = "l0"
    population: Annotated[int, Ge(4)] = 100
    generations: Count = 50
    weight: NonNegative = 0.5
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l0",)
    kinds: ClassVar = ("image",)
    white_box: ClassVar = False
    reference: ClassVar = Paper(
        "One pixel attack for fooling deep neural networks",
        "Jiawei Su and Danilo Vasconcellos Vargas and Kouichi Sakurai", 2019, "IEEE TEVC", "1710.08864",
    )  # fmt: skip

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, forward and backward, at most."""
        return self.population * (self.generations + 1), 0

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from .losses import cross_entropy
        from .tracker import Tracker

        pixels = int(self.eps) // x.shape[1]
        if pixels < 1:
            raise ValueError(f"eps counts changed values: one pixel of {x.shape[1]} channels needs eps >= {x.shape[1]}")
        tracker, rows = Tracker(x, y, None, model.held), torch.arange(len(x), device=x.device)
        genes, fitness = (
            torch.from_numpy(rng.uniform((self.population, pixels, 2 + x.shape[1]), name="genes")).to(x),
            None,
        )
        for generation in range(self.generations + 1):
            trial = genes if fitness is None else self._children(genes, rng.take(rows.cpu().numpy()), generation)
            images = self._paint(x[rows], trial)
            many = rows.repeat_interleave(self.population)
            logits = model(images.flatten(0, 1), rows=many)
            loss = cross_entropy(logits, y[many]).reshape(len(rows), -1)
            wrong = tracker.fooled(logits.argmax(1), many).reshape(len(rows), -1)
            best = torch.where(wrong.any(1), wrong.int().argmax(1), loss.argmax(1))
            line = torch.arange(len(rows), device=x.device)
            shown = logits.reshape(len(rows), self.population, -1)[line, best]
            stand = tracker.see(rows, images[line, best], shown, loss[line, best])
            better = loss > fitness if fitness is not None else torch.ones_like(wrong)
            genes = torch.where(better[..., None, None], trial, genes)[stand]
            fitness = (loss if fitness is None else torch.maximum(fitness, loss))[stand]
            rows = rows[stand]
            if len(rows) == 0:
                break
        return tracker.found()

    def _children(self, genes: Tensor, rng: Any, generation: int) -> Tensor:
        """a + weight (b - c) for three random parents, wrapped into the unit cube."""
        import torch

        pick = torch.from_numpy(rng.integers(0, self.population, (3, self.population), name=f"parents{generation}"))
        line = torch.arange(len(genes))[:, None]
        a, b, c = (genes[line, pick[:, i].to(genes.device)] for i in range(3))
        return (a + self.weight * (b - c)) % 1.0

    def _paint(self, x: Tensor, genes: Tensor) -> Tensor:
        """Images `[m p c h w]`: each gene sets its pixel to its colour."""
        import torch

        from testbed.perturb.geometry import limits

        low, high = limits(self.bounds, x, x.device)
        m, p, k = genes.shape[:3]
        c, h, w = x.shape[1:]
        at = (genes[..., 0] * h).long().clamp_max(h - 1) * w + (genes[..., 1] * w).long().clamp_max(w - 1)
        out = x.reshape(m, 1, c, h * w).expand(m, p, c, h * w).clone()
        colour = low + (high - low) * genes[..., 2:].transpose(2, 3)
        out.scatter_(3, at[:, :, None, :].expand(m, p, c, k), colour)
        return torch.clamp(out, low, high).reshape(m, p, c, h, w)
