"""Near-duplicates: images of one shot that occur twice, within a set or between training and test images.

Two stages, on luminance and colour thumbnails, so no network is needed:
1. coarse: each image averaged to 8x8 pixels, mean taken off, scaled to length 1; the `candidates` images of the other
   set with the largest inner product;
2. fine: luminance at 32x32 between two Gaussian blurs (sigma 0.7 and 3 pixels), weighted down towards the border,
   scaled to length 1; the score of a pair is the largest correlation over shifts of up to 4 pixels each way.
The fine stage ignores brightness, contrast and colour, so it finds copies that were re-coloured, re-compressed or
shifted a little. It does not look for mirrored, rotated or strongly cropped copies: the share found is a lower bound.

The default threshold was fixed by looking at pairs of CIFAR-10 training images: above 0.9 almost all are of one shot,
below 0.87 many are not. What it finds on the test images:
`experiments/papers/cifair2020`. The idea of auditing CIFAR so is Barz & Denzler's ("Do we train on test data?", 2020),
who used a network's features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from testbed.data.adapt import resize, to_channels
from testbed.errors import DataError
from testbed.types import Array, Floats, Ints

SIDE, COARSE, SHIFT, BLOCK = 32, 8, 4, 500
THRESHOLD = 0.9


@dataclass(frozen=True)
class Pairs:
    """Positions of pairs, best first: `left` in the first set, `right` in the second or the same; `score` in -1..1."""

    left: Ints
    right: Ints
    score: Floats

    def __len__(self) -> int:
        return len(self.left)


def near_duplicates(
    x: Array, other: Array | None = None, *, threshold: float = THRESHOLD, candidates: int = 5
) -> Pairs:
    """For each image of `x` (uint8 `[n h w c]`) its best match in `other`, where that scores at least `threshold`.

    Without `other`, pairs within `x`, each once. Time grows with the product of the sizes: about 20 s of one core for
    10,000 against 50,000 images; memory with their sum.

    >>> rng = np.random.default_rng(0)
    >>> x = rng.integers(0, 200, (6, 32, 32, 3), dtype=np.uint8)
    >>> brighter = (x[[4]] * 0.7 + 60).astype(np.uint8)
    >>> pairs = near_duplicates(brighter, x)
    >>> pairs.left.tolist(), pairs.right.tolist(), bool(pairs.score[0] > 0.99)
    ([0], [4], True)
    """
    same = other is None
    against = x if other is None else other
    if x.ndim != 4 or x.dtype != np.uint8 or against.shape[3:] != x.shape[3:]:
        raise DataError(
            f"expected two sets of uint8 images [n h w c] with the same channels, got {x.shape} and {against.shape}"
        )
    if len(against) <= (1 if same else 0) or not len(x):
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    bank = coarse(against)
    left, right, score = [], [], []
    for start in range(0, len(x), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(x)))
        found = _nearest(coarse(x[rows]), bank, candidates, rows if same else None)
        details = fine(x[rows])
        scores = np.stack([correlation(details, fine(against[column])) for column in found.T], axis=1)
        best = scores.argmax(axis=1)
        left.append(rows)
        right.append(found[np.arange(len(rows)), best])
        score.append(scores.max(axis=1))
    return _kept(np.concatenate(left), np.concatenate(right), np.concatenate(score), threshold, same)


def coarse(x: Array) -> Floats:
    """float32 `[n d]`: thumbnails of 8x8 pixels, centred, of length 1."""
    small = np.stack([resize(image, SIDE, SIDE) for image in x]) if x.shape[1:3] != (SIDE, SIDE) else x
    step = SIDE // COARSE
    means = (
        small.astype(np.float32).reshape(len(x), COARSE, step, COARSE, step, -1).mean(axis=(2, 4)).reshape(len(x), -1)
    )
    return _unit(means - means.mean(axis=1, keepdims=True))


def fine(x: Array) -> Floats:
    """float32 `[n 32 32]`: the detail of the luminance, of length 1."""
    from scipy.ndimage import gaussian_filter

    small = np.stack([resize(image, SIDE, SIDE) for image in x]) if x.shape[1:3] != (SIDE, SIDE) else x
    grey = to_channels(small, 1)[..., 0].astype(np.float32)
    detail = gaussian_filter(grey, (0, 0.7, 0.7)) - gaussian_filter(grey, (0, 3.0, 3.0))
    window = np.sqrt(np.hanning(SIDE + 2)[1:-1]).astype(np.float32)
    detail *= window[:, None] * window[None, :]
    detail -= detail.mean(axis=(1, 2), keepdims=True)
    return _unit(detail.reshape(len(x), -1)).reshape(len(x), SIDE, SIDE)


def correlation(a: Floats, b: Floats) -> Floats:
    """float32 `[n]`: the largest correlation of each pair of details over cyclic shifts of up to 4 pixels."""
    product = np.fft.rfft2(a) * np.conj(np.fft.rfft2(b))
    shifts = np.r_[0 : SHIFT + 1, -SHIFT:0]
    every: Floats = np.fft.irfft2(product, s=(SIDE, SIDE))[:, shifts][:, :, shifts]
    best: Floats = every.max(axis=(1, 2)).astype(np.float32)
    return best


def _unit(values: Floats) -> Floats:
    length = np.sqrt((values**2).sum(axis=1, keepdims=True))
    unit: Floats = (values / np.maximum(length, 1e-3)).astype(np.float32)
    return unit


def _nearest(queries: Floats, bank: Floats, candidates: int, own: Ints | None) -> Ints:
    """int64 `[n candidates]`: the bank rows most alike, leaving out a query's own row."""
    alike = queries @ bank.T
    if own is not None:
        alike[np.arange(len(own)), own] = -np.inf
    count = min(candidates, alike.shape[1] - (own is not None))
    return np.argpartition(-alike, count - 1, axis=1)[:, :count].astype(np.int64)


def _kept(left: Ints, right: Ints, score: Floats, threshold: float, same: bool) -> Pairs:
    """Pairs at or above the threshold, best first; within one set each pair once."""
    keep = score >= threshold
    left, right, score = left[keep], right[keep], score[keep]
    if same:
        pairs = np.stack([np.minimum(left, right), np.maximum(left, right)], axis=1)
        _, first = np.unique(pairs, axis=0, return_index=True)
        left, right, score = pairs[first, 0], pairs[first, 1], score[first]
    order = np.lexsort((right, left, -score))
    return Pairs(left[order], right[order], score[order])
