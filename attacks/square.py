"""Square attack: random search over square windows, without gradients (Andriushchenko et al. 2020).

Query i changes one window of side s = round(sqrt(p_i h w)); the change is kept where the margin z_y - max other z falls
or the example is fooled. p starts at `p_init` and halves after queries 10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000.

    linf  start: stripes of +-eps, one sign per column and channel; window: x +- eps, one sign per channel
    l2    start: a grid of pyramid bumps scaled to eps; window: mass is moved from a second window into the first
    l1    as l2 with steeper pyramids, and projected on ball and box instead of scaled (Croce and Hein 2021)

Every example has windows and signs of its own, so that no result depends on batch mates; the authors' code shares
them. A window may touch the last row and column, which floor(U (h - s)) never lets it. Only standing examples are
queried. Windows are written into the images in place and taken back where the change was refused: the work outside
the model is that of the window, not of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, PositiveShare
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim

#: Queries after which the window's share of the image has halved once more.
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
#: Draws are made for this many queries at a time.
BLOCK = 250
#: Pace is looked at over this many queries.
PACE = 500
#: A search is not given up that has come within this share of the loss it had after PACE queries.
CLOSE = 0.4


def side(query: int, p_init: float, height: int, width: int) -> int:
    """Side of the window at a query (0 = the first after the start).

    >>> [side(i, 0.8, 28, 28) for i in (0, 11, 51, 201, 4001)]
    [25, 18, 13, 9, 2]
    """
    share = p_init / 2 ** sum(query > halving for halving in HALVINGS)
    return int(min(max(round((share * height * width) ** 0.5), 1), min(height, width)))


@dataclass(frozen=True)
class Square(Checked):
    """Square attack.

    queries   model evaluations an example, its start included
    p_init    share of the image that the first windows cover
    hopeless  after every 500 queries from the 1000th, end searches that their pace since the 500th would not take to
              success, unless they have come within 0.4 times the loss they had there
    target    as in `pgd`: the class each example is sent to; what falls is then its cross-entropy, as in the paper
    """

    eps: NonNegative
    norm: Literal["linf", "l2", "l1"] = "linf"
    queries: Count = 5000
    p_init: PositiveShare = 0.8
    hopeless: bool = False
    target: Target = "none"
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf", "l2", "l1")
    version: ClassVar = 3
    draws: ClassVar = 3
    kinds: ClassVar = ("image",)
    white_box: ClassVar = False
    streams: ClassVar = True
    row_eps: ClassVar = True
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Square attack: a query-efficient black-box adversarial attack via random search",
        "Maksym Andriushchenko and Francesco Croce and Nicolas Flammarion and Matthias Hein",
        2020, "ECCV", "1912.00049",
    )  # fmt: skip

    @property
    def budget(self) -> tuple[int, int]:
        """Evaluations of an example, forward and backward, at most."""
        return self.queries, 0

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        from .square_bumps import search_bumps
        from .square_search import search_linf

        search = search_linf if self.norm == "linf" else search_bumps
        return search(self, model, x, y, rng)

    def __post_init__(self) -> None:
        if self.hopeless and self.target != "none":
            raise ValueError(f"hopeless goes by the margin, which a target has none of; got target={self.target!r}")
