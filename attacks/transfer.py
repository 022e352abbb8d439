"""Momentum and input-variation attacks, made to transfer: one loop, one idea a class. All are linf.

    MI   g_{k+1} = mu g_k + G / |G|_1;  x_{k+1} = P(x_k + a sign g_{k+1})          Dong et al. 2018
    NI   G taken at x_k + a mu g_k                                                Lin et al. 2020
    DI   G through a random resize and padding, with probability p                Xie et al. 2019
    TI   G convolved with a Gaussian kernel                                       Dong et al. 2019
    SI   G averaged over the copies x / 2^i                                       Lin et al. 2020
    VMI  G plus the gradient variance around x_k, from random neighbours          Wang and He 2021

|G|_1 is the sum over the example's own values divided by their number (the mean), as in the authors' code: the paper's
sum differs by a constant that sign() does not see as long as mu g and G are scaled alike. Steps are eps / steps. The
attack leaves an example at its first fooled iterate; to make images for transfer to another model give `stop: false`,
which runs every step and returns the last iterate.

`target` sends each example to a class, as in `pgd` and as the papers' targeted forms do: G is the gradient of minus the
cross-entropy at that class, an example leaves where it is given that class, and `targets_reached` in the audit counts
them. Success in the ledger stays any misclassification.

`eot` averages each gradient over that many draws of a model that draws random numbers, as in `pgd`; an example is then
fooled where the mean prediction of as many fresh draws is wrong. It multiplies with what a method averages over by
itself: SI takes copies * eot gradients a step, VMI (1 + neighbours) * eot, and DI passes one transform a step to all
eot draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.parameters import Checked, Count, NonNegative, Positive, Share
from testbed.types import Paper

from .pgd import Target

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.perturb.attack import Found
    from testbed.perturb.victim import Victim


@dataclass(frozen=True)
class MIFGSM(Checked):
    """Momentum iterative FGSM."""

    eps: NonNegative
    norm: Literal["linf"] = "linf"
    steps: Count = 10
    step_size: Positive | None = None
    decay: NonNegative = 1.0
    stop: bool = True
    target: Target = "none"
    eot: Count = 1
    bounds: Any = (0.0, 1.0)

    norms: ClassVar = ("linf",)
    kinds: ClassVar = ("image",)
    streams: ClassVar = True
    lengths: ClassVar = ("step_size",)
    row_target: ClassVar = True
    reference: ClassVar = Paper(
        "Boosting adversarial attacks with momentum",
        "Yinpeng Dong and Fangzhou Liao and Tianyu Pang and Hang Su and Jun Zhu and Xiaolin Hu and Jianguo Li",
        2018, "CVPR", "1710.06081",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.steps < 1 or self.eot < 1:
            raise ValueError(f"steps and eot must be at least 1, got {self.steps}, {self.eot}")

    @property
    def fresh_draws(self) -> int:
        """Forward passes whose mean prediction decides whether an example is fooled."""
        return self.eot

    @property
    def size(self) -> float:
        """The step in input units."""
        return self.eps / self.steps if self.step_size is None else self.step_size

    def __call__(self, model: Victim, x: Tensor, y: Tensor, *, rng: Any) -> Found:
        """x `[n c h w]` -> the attacked x; see `testbed.perturb.attack`."""
        from .momentum import run

        return run(self, model, x, y, rng)

    def gradient(self, ask: Any, x: Tensor, momentum: Tensor, rng: Any, step: int) -> Tensor:
        """The gradient G of a step; `ask(x)` gives the loss's gradient at points of the standing examples."""
        gradient: Tensor = ask(x)
        return gradient


@dataclass(frozen=True)
class NIFGSM(MIFGSM):
    """Nesterov iterative FGSM: the gradient is taken where momentum would carry the image."""

    reference: ClassVar = Paper(
        "Nesterov accelerated gradient and scale invariance for adversarial attacks",
        "Jiadong Lin and Chuanbiao Song and Kun He and Liwei Wang and John E. Hopcroft", 2020, "ICLR", "1908.06281",
    )  # fmt: skip

    def gradient(self, ask: Any, x: Tensor, momentum: Tensor, rng: Any, step: int) -> Tensor:
        """G at x + a mu g."""
        gradient: Tensor = ask(x + self.size * self.decay * momentum)
        return gradient


@dataclass(frozen=True)
class SINIFGSM(NIFGSM):
    """NI with scale invariance: G averaged over x / 2^i, i < copies."""

    copies: Count = 5

    def gradient(self, ask: Any, x: Tensor, momentum: Tensor, rng: Any, step: int) -> Tensor:
        """The mean gradient over scaled copies of the look-ahead point, each with respect to that point."""
        import torch

        ahead = x + self.size * self.decay * momentum
        return torch.stack([ask(ahead / 2**i) / 2**i for i in range(self.copies)]).mean(0)


@dataclass(frozen=True)
class DIFGSM(MIFGSM):
    """Diverse inputs: with probability `prob` the image is shrunk at random and padded back before the gradient."""

    resize_rate: Positive = 0.9
    prob: Share = 0.5

    reference: ClassVar = Paper(
        "Improving transferability of adversarial examples with input diversity",
        "Cihang Xie and Zhishuai Zhang and Yuyin Zhou and Song Bai and Jianyu Wang and Zhou Ren and Alan Yuille",
        2019, "CVPR", "1803.06978",
    )  # fmt: skip

    def gradient(self, ask: Any, x: Tensor, momentum: Tensor, rng: Any, step: int) -> Tensor:
        """G through each example's own transform."""
        from .momentum import diverse

        draws = rng.uniform((4,), name=f"diverse{step}")
        gradient: Tensor = ask(x, lambda images, at: diverse(images, draws[at], self.resize_rate, self.prob))
        return gradient


@dataclass(frozen=True)
class TIFGSM(DIFGSM):
    """Translation invariance: G convolved with a Gaussian; on DI.

    kernel   odd side of the kernel, in pixels
    sigma    its standard deviation in pixels; where absent a third of the way from its middle to its edge, 14 / 6 for
             15 pixels: the authors' code samples the density at 15 points from -3 to 3
    """

    prob: Share = 0.0
    kernel: Count = 15
    sigma: Positive | None = None

    version: ClassVar = 2
    reference: ClassVar = Paper(
        "Evading defenses to transferable adversarial examples by translation-invariant attacks",
        "Yinpeng Dong and Tianyu Pang and Hang Su and Jun Zhu", 2019, "CVPR", "1904.02884",
    )  # fmt: skip

    def gradient(self, ask: Any, x: Tensor, momentum: Tensor, rng: Any, step: int) -> Tensor:
        """W * G, channel by channel."""
        from .momentum import smooth

        sigma = max(self.kernel - 1, 1) / 6 if self.sigma is None else self.sigma
        return smooth(super().gradient(ask, x, momentum, rng, step), self.kernel, sigma)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")


@dataclass(frozen=True)
class VMIFGSM(MIFGSM):
    """Variance tuning: G plus the last step's V, the mean gradient at points within beta eps less G there."""

    neighbours: Count = 20
    beta: Positive = 1.5

    reference: ClassVar = Paper(
        "Enhancing the transferability of adversarial attacks through variance tuning",
        "Xiaosen Wang and Kun He", 2021, "CVPR", "2103.15571",
    )  # fmt: skip

    def variance(self, ask: Any, x: Tensor, gradient: Tensor, rng: Any, step: int) -> Tensor:
        """V at x, for the next step."""
        import torch

        reach = self.beta * self.eps
        around = [
            ask(x + torch.from_numpy(rng.uniform(tuple(x.shape[1:]), -reach, reach, name=f"near{step}/{i}")).to(x))
            for i in range(self.neighbours)
        ]
        return torch.stack(around).mean(0) - gradient
