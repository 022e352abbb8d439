"""Translation as in the authors' code: columns move right and come back in at the left edge."""

import numpy as np


def roll(images, *, pixels: int, severity: float = 1.0, rng):
    """images uint8 [n h w c] moved by `severity * pixels` whole pixels."""
    return np.roll(images, round(severity * pixels), axis=2)
