"""AugMix (Hendrycks et al. 2020): mix chains of simple image operations, and keep three views consistent.

For one view: `width` chains of 1 to 3 (or `depth`) operations, each on the image at hand; chains are averaged with
Dirichlet(alpha) weights, and the result is mixed with the image by a Beta(alpha, alpha) share. The loss is the
cross-entropy of the clean image plus 12 times the Jensen-Shannon divergence of the three predictions (clean and two
views). Operations and their strengths are the paper's: autocontrast, equalize, posterize, rotate, solarize, shear and
translate in x and y. They work on uint8 through Pillow, image by image: about 1 ms an image of 32x32 and a view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from annotated_types import Ge, Interval

from testbed.models.recipes.base import Recipe
from testbed.parameters import Count, Positive
from testbed.types import Array, Paper

if TYPE_CHECKING:
    import torch
    from torch import nn

OPERATIONS = (
    "autocontrast", "equalize", "posterize", "rotate", "solarize", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
LAMBDA = 12.0


@dataclass(frozen=True)
class AugMix(Recipe):
    """`severity` of the operations (up to 10), `width` chains, `depth` operations a chain (-1: 1 to 3), `alpha`."""

    severity: Annotated[int, Interval(ge=0, le=10)] = 3
    width: Count = 3
    depth: Annotated[int, Ge(-1)] = -1
    alpha: Positive = 1.0

    reference: ClassVar[Paper] = Paper(
        "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
        "Dan Hendrycks, Norman Mu, Ekin D. Cubuk, Barret Zoph, Justin Gilmer, Balaji Lakshminarayanan",
        2020,
        "ICLR",
        "1912.02781",
    )

    def loss(self, model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of the clean images plus the consistency of three views."""
        import torch
        from torch.nn import functional as F

        n = len(x)
        logits = model(torch.cat([x, self.views(x), self.views(x)]))
        p = logits.softmax(1).split(n)
        middle = (sum(p, torch.zeros_like(p[0])) / 3).clamp(1e-7, 1).log()
        apart = sum((F.kl_div(middle, view, reduction="batchmean") for view in p), torch.zeros((), device=x.device)) / 3
        return F.cross_entropy(logits[:n], y) + LAMBDA * apart

    def views(self, x: torch.Tensor) -> torch.Tensor:
        """One augmented view of each image of `[n c h w]` in [0, 1]; seeded from torch's global generator."""
        import torch

        seeds = torch.randint(0, 2**62, (len(x),)).tolist()
        images = (x.detach().cpu().permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy()
        mixed = np.stack(
            [self.view(image, np.random.default_rng(seed)) for image, seed in zip(images, seeds, strict=True)]
        )
        return torch.from_numpy(mixed).permute(0, 3, 1, 2).contiguous().to(x.device)

    def view(self, image: Array, rng: np.random.Generator) -> Array:
        """float32 `[h w c]` in [0, 1]: one augmented view of a uint8 image."""
        shares, share = rng.dirichlet([self.alpha] * self.width), rng.beta(self.alpha, self.alpha)
        mix = np.zeros(image.shape, dtype=np.float64)
        for weight in shares:
            changed = image
            for _ in range(self.depth if self.depth > 0 else int(rng.integers(1, 4))):
                changed = operate(changed, OPERATIONS[int(rng.integers(len(OPERATIONS)))], self.severity, rng)
            mix += weight * changed
        mixed: Array = (((1 - share) * image + share * mix) / 255).astype(np.float32)
        return mixed


def operate(image: Array, name: str, severity: int, rng: np.random.Generator) -> Array:
    """One operation at a strength drawn up to `severity` of 10; uint8 `[h w c]` in and out."""
    from PIL import Image, ImageOps

    grey = image.shape[2] == 1
    picture = Image.fromarray(image[..., 0] if grey else image)
    level, sign = rng.uniform(0.1, severity) / 10, rng.choice([-1.0, 1.0])
    if name == "autocontrast":
        out = ImageOps.autocontrast(picture)
    elif name == "equalize":
        out = ImageOps.equalize(picture)
    elif name == "posterize":
        out = ImageOps.posterize(picture, 4 - int(level * 4))
    elif name == "solarize":
        out = ImageOps.solarize(picture, 256 - int(level * 256))
    elif name == "rotate":
        out = picture.rotate(sign * int(level * 30), resample=Image.Resampling.BILINEAR)
    else:
        out = _affine(picture, name, level, sign)
    pixels = np.asarray(out)
    return pixels[..., None] if grey else pixels


def _affine(picture: Any, name: str, level: float, sign: float) -> Any:
    """Shear by up to 0.3, or translate by up to a third of the side."""
    from PIL import Image

    width, height = picture.size
    matrix = {
        "shear_x": (1, sign * level * 0.3, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, sign * level * 0.3, 1, 0),
        "translate_x": (1, 0, sign * int(level * width / 3), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, sign * int(level * height / 3)),
    }[name]
    return picture.transform((width, height), Image.Transform.AFFINE, matrix, resample=Image.Resampling.BILINEAR)
