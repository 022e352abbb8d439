"""The boundary attack (Brendel, Rauber and Bethge 2018): a random walk along the boundary towards the clean image.

From a fooling image of noise, bisected to the boundary (`decisions`), at distance r = |x - x*|_2, for each step:

    sphere   x' on the sphere of radius r round x*, after a move of spherical_step r at right angles to x* - x
    source   x'' from x' towards x*, to the distance (1 - source_step) r

both clipped to the box; x <- x'' where that fools and is closer. Every tenth step asks about x' too. Of these steps,
the last 100 answers about x' and the last 30 about x'' set the step sizes (constants as in foolbox 3, by the same
authors, which counts every x'' and not only those whose x' fools):

    x'  fooled more than 0.5: both sizes grow by `step_adaptation`; less than 0.2: both shrink
    x'' fooled more than 0.25: source_step grows; less than 0.1: it shrinks

after which the answers are forgotten. An example is done when its source_step falls below `source_step_convergance` or,
within a budget, at its first image inside the ball. Draws, sizes and answers are each example's own. With a
target the start is an image of that class from the same set (`decisions`), so that results depend on the set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from annotated_types import Gt

from testbed.parameters import Checked, Count, NonNegative, OpenShare
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

#: Steps from one look at the sizes to the next.
LOOK = 10
#: Halvings of the bisection that the walk starts from.
HALVINGS = 10
#: Answers about x' and x'' that set the sizes, and the rates below and above which they do.
SPHERE, SOURCE = (100, 0.2, 0.5), (30, 0.1, 0.25)


@dataclass(frozen=True)
class Boundary(Checked):
    """The boundary attack in l2.

    target                   a class, or one an example, that each is sent to; only being given it then counts
    eps                      budget; None = the smallest perturbation found, whatever its size
    spherical_step           the first, relative to the distance
    source_step              the first, relative to the distance
    source_step_convergance  an example whose source_step is below this is done
    step_adaptation          factor by which the sizes grow and shrink
    """

    eps: NonNegative | None = None
    norm: Literal["l2"] = "l2"
    steps: Count = 25000
    spherical_step: OpenShare = 0.01
    source_step: OpenShare = 0.01
    source_step_convergance: NonNegative = 1e-7
    step_adaptation: Annotated[float, Gt(1)] = 1.5
    target: Literal["none", "groups"] | int | tuple[int, ...] = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("l2",)
    version: ClassVar = 2
    draws: ClassVar = 2
    minimal: ClassVar = True
    white_box: ClassVar = False
    streams: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Decision-based adversarial attacks: reliable attacks against black-box machine learning models",
        "Wieland Brendel and Jonas Rauber and Matthias Bethge", 2018, "ICLR", "1712.04248",
    )  # fmt: skip

    def __post_init__(self) -> None:
        sizes = (self.spherical_step, self.source_step)
        if self.steps < 1 or not min(sizes) > 0 or not self.step_adaptation > 1 or not max(sizes) < 1:
            raise ValueError(
                "steps >= 1, 0 < spherical_step, source_step < 1 and step_adaptation > 1 are needed, "
                f"got {self.steps}, {sizes} and {self.step_adaptation}"
            )

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, about: one a step, one more in every tenth, a dozen to begin with."""
        return self.steps + self.steps // LOOK + HALVINGS + 2, 0

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any, others: Any = None) -> Found:
        """x `[n ...]` -> the attacked x; see `testbed.perturb.attack`."""
        import torch

        from .decisions import Decisions

        asked = Decisions(self, model, x, y, others)
        rows, noise = asked.start(rng)
        asked.back(rows, noise, HALVINGS)
        sizes = torch.tensor([self.spherical_step, self.source_step], device=x.device).repeat(len(rows), 1)
        sphere, source = Answers(len(rows), *SPHERE, x.device), Answers(len(rows), *SOURCE, x.device)
        for step in range(1, self.steps + 1):
            stand = (sizes[:, 1] >= self.source_step_convergance) & ~asked.closest.done(rows)
            if not bool(stand.all()):
                rows, sizes = rows[stand], sizes[stand]
                sphere.keep(stand)
                source.keep(stand)
            if len(rows) == 0:
                break
            noise = torch.from_numpy(rng.take(rows.cpu().numpy()).normal(tuple(x.shape[1:]), name=f"step{step}")).to(x)
            turned, nearer = proposals(x[rows], asked.closest.best[rows], noise, sizes, asked.low, asked.high)
            fooled = asked.see(rows, nearer)
            if step % LOOK == 0:
                sphere.add(asked.fools(rows, turned))
                source.add(fooled)
                sizes = sizes * self.step_adaptation ** sphere.verdict()[:, None]
                sizes[:, 1] *= self.step_adaptation ** source.verdict()
        return asked.found()


def proposals(clean: Tensor, now: Tensor, noise: Tensor, sizes: Tensor, low: Any, high: Any) -> tuple[Tensor, Tensor]:
    """x' and x'' `[m ...]` of a step from `now`, for normal draws and sizes `[m 2]` (spherical, source)."""
    import torch

    from testbed.perturb.geometry import per_row

    way = clean - now
    r = _size(way)
    across = noise - per_row((noise * way).flatten(1).sum(1) / r**2, now) * way
    across = across * per_row(sizes[:, 0] * r / _size(across), now)
    turned = torch.clamp(clean - (way - across) / per_row((1 + sizes[:, 0] ** 2).sqrt(), now), low, high)
    left = clean - turned
    share = (1 - (1 - sizes[:, 1]) * r / _size(left)).clamp_min(0)
    return turned, torch.clamp(turned + per_row(share, now) * left, low, high)


def _size(delta: Tensor) -> Tensor:
    from testbed.perturb.geometry import length

    return length(delta, "l2").to(delta.dtype).clamp_min(1e-30)


class Answers:
    """Each row's last `length` answers, and whether they call for smaller or larger steps.

    >>> import torch
    >>> answers = Answers(2, 4, 0.2, 0.5, "cpu")
    >>> for answer in (True, False, True, True):
    ...     answers.add(torch.tensor([answer, False]))
    >>> answers.verdict().tolist(), answers.verdict().tolist()
    ([1.0, -1.0], [0.0, 0.0])
    """

    def __init__(self, rows: int, length: int, low: float, high: float, device: Any) -> None:
        import torch

        self.low, self.high = low, high
        self.last = torch.full((rows, length), float("nan"), device=device)

    def add(self, answer: Tensor) -> None:
        """One more answer a row, bool `[m]`; the oldest goes."""
        self.last = self.last.roll(1, 1)
        self.last[:, 0] = answer.to(self.last.dtype)

    def verdict(self) -> Tensor:
        """1 larger, -1 smaller, 0 as they are or too few answers; what led to a change is forgotten."""
        rate = self.last.mean(1)
        out = (rate > self.high).float() - (rate < self.low).float()
        self.last[out != 0] = float("nan")
        return out

    def keep(self, stay: Tensor) -> None:
        """Go on with some of the rows."""
        self.last = self.last[stay]
