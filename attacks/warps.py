"""Attacks that move pixels instead of changing them; they have no ball, so no norm and no eps.

spatial   the worst of a grid of rotations and translations, zero-padded            Engstrom et al. 2019
stadv     a smooth flow field found by gradient steps                               Xiao et al. 2018

StAdv minimises max(z_y - max other z, 0) + tau * flow roughness, where roughness is the sum over neighbours of the
length of the difference of their flows. The paper uses L-BFGS; Adam is used here, which needs no line search a row.
`eot` of StAdv is that of `pgd`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from testbed.parameters import Checked, Count, NonNegative, Positive
from testbed.types import Paper

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class Spatial(Checked):
    """Every rotation (degrees, up to max_rotation either way) with every translation (pixels, per axis)."""

    max_rotation: NonNegative = 30.0
    max_translation: NonNegative = 3.0
    rotations: Count = 31
    translations: Count = 5

    norms: ClassVar = ()
    kinds: ClassVar = ("image",)
    white_box: ClassVar = False
    streams: ClassVar = True
    reference: ClassVar = Paper(
        "Exploring the landscape of spatial robustness",
        "Logan Engstrom and Brandon Tran and Dimitris Tsipras and Ludwig Schmidt and Aleksander Madry",
        2019, "ICML", "1712.02779",
    )  # fmt: skip

    def __call__(self, model: Victim, x: Tensor, y: Tensor) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`. Nothing is drawn at random."""
        import itertools

        import torch

        from .losses import cross_entropy
        from .tracker import Tracker

        tracker, rows = Tracker(x, y, None, model.held), torch.arange(len(x), device=x.device)
        angles = torch.linspace(-self.max_rotation, self.max_rotation, self.rotations).tolist()
        moves = torch.linspace(-self.max_translation, self.max_translation, self.translations).tolist()
        for angle, right, down in itertools.product(angles, moves, moves):
            images = transform(x[rows], angle, right, down)
            logits = model(images, rows=rows)
            rows = rows[tracker.see(rows, images, logits, cross_entropy(logits, y[rows]))]
            if len(rows) == 0:
                break
        return tracker.found()


def transform(x: Tensor, angle: float, right: float, down: float) -> Tensor:
    """Images turned by `angle` degrees counter-clockwise about their middle, then moved; bilinear, zeros outside."""
    import math

    import torch
    import torch.nn.functional as F

    h, w = x.shape[2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    # output -> input in pixels from the middle: undo the move, then the turn; row direction points down
    turn = torch.tensor([[cos, -sin], [sin, cos]], device=x.device)
    scale = torch.tensor([w / 2, h / 2], device=x.device)
    matrix = turn * scale[None, :] / scale[:, None]
    offset = -(turn @ torch.tensor([right, down], device=x.device)) / scale
    theta = torch.cat([matrix, offset[:, None]], dim=1).expand(len(x), 2, 3).to(x)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False).clamp(0, 1) if x.numel() else x


@dataclass(frozen=True)
class StAdv(Checked):
    """Spatially transformed adversarial examples; `learning_rate` in pixels a step."""

    steps: Count = 100
    learning_rate: Positive = 0.05
    tau: NonNegative = 0.05
    eot: Count = 1
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ()
    kinds: ClassVar = ("image",)
    streams: ClassVar = True
    reference: ClassVar = Paper(
        "Spatially transformed adversarial examples",
        "Chaowei Xiao and Jun-Yan Zhu and Bo Li and Warren He and Mingyan Liu and Dawn Song",
        2018, "ICLR", "1801.02612",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.eot < 1:
            raise ValueError(f"eot must be at least 1, got {self.eot}")

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    def __call__(self, model: Victim, x: Tensor, y: Tensor) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`. The flow starts at rest, nothing is random."""
        import torch

        from .adam import Adam
        from .losses import margin, towards
        from .sampling import confirmed, gradient_of, logits_of
        from .tracker import Tracker

        tracker, rows = Tracker(x, y, None, model.held), torch.arange(len(x), device=x.device)
        flow = torch.zeros(len(x), *x.shape[2:], 2, device=x.device)
        # a slope of zero but for rounding must not become a full step
        adam = Adam(flow, self.learning_rate, tiny=1e-5)
        for step in range(self.steps + 1):
            with torch.enable_grad():
                moving = flow.detach().requires_grad_()
                images = flowed(x[rows], moving)
                if step == self.steps:
                    logits = logits_of(model, images.detach(), rows, self.eot)
                    fooled = confirmed(model, images.detach(), rows, logits, tracker.fooled, self.eot)
                    tracker.see(rows, images.detach(), logits, margin(logits, y[rows]), fooled)
                    break
                rise = towards("margin", y[rows])
                inner, loss, logits = gradient_of(model, images.detach(), rise, rows, self.eot)
                push = torch.autograd.grad(images, moving, inner, retain_graph=True)[0]
                rough = torch.autograd.grad(roughness(moving).sum(), moving)[0]
            fooled = confirmed(model, images.detach(), rows, logits, tracker.fooled, self.eot)
            stand = tracker.see(rows, images.detach(), logits, loss, fooled)
            flow = (flow + adam.step(push - self.tau * rough))[stand]
            rows, adam = rows[stand], adam.keep(stand)
            if len(rows) == 0:
                break
        return tracker.found()


def flowed(x: Tensor, flow: Tensor) -> Tensor:
    """Images whose pixel (r, c) is read at (r, c) + flow `[m h w 2]` (right, down), bilinear, edges repeated."""
    import torch
    import torch.nn.functional as F

    h, w = x.shape[2:]
    row, column = torch.meshgrid(torch.arange(h, device=x.device), torch.arange(w, device=x.device), indexing="ij")
    at = torch.stack([column, row], dim=2) + flow
    size = torch.tensor([w, h], device=x.device)
    return F.grid_sample(x, (2 * at + 1) / size - 1, align_corners=False, padding_mode="border")


def roughness(flow: Tensor) -> Tensor:
    """Sum over neighbouring pixels of the length of the difference of their flows, `[m]`; smooth at zero by 1e-8."""
    down, right = flow[:, 1:] - flow[:, :-1], flow[:, :, 1:] - flow[:, :, :-1]
    return sum((d.pow(2).sum(3) + 1e-8).sqrt().flatten(1).sum(1) for d in (down, right))  # type: ignore[return-value]
