"""The inner loops that numpy and OpenCV do not have: one image at a time, compiled on first use and cached.

All take uint8 `[n h w c]` and give the same. `half` is added before the cut to uint8: 0 cuts, 0.5 rounds.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

Bytes = NDArray[np.uint8]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@compiled
def plasma(wibble: Float32, decay: float, out: Float64) -> None:
    """Diamond-square height map on a torus, scaled to [0, 1], into `out` `[m m]`; `wibble` `[m m]` holds U(-1, 1)."""
    m = out.shape[0]
    out[0, 0] = 0.0
    step, amount = m, 100.0
    while step >= 2:
        half, scale = step // 2, amount * amount
        for y in range(half, m, step):
            for x in range(half, m, step):
                up, left, down, right = y - half, x - half, (y + half) % m, (x + half) % m
                total = out[up, left] + out[up, right] + out[down, left] + out[down, right]
                out[y, x] = total / 4 + scale * wibble[y, x]
        for y in range(0, m, half):
            for x in range(half - y % step, m, step):
                total = (
                    out[(y - half) % m, x] + out[(y + half) % m, x] + out[y, (x - half) % m] + out[y, (x + half) % m]
                )
                out[y, x] = total / 4 + scale * wibble[y, x]
        step, amount = half, amount / decay
    low, high = out.min(), out.max()
    for y in range(m):
        for x in range(m):
            out[y, x] = (out[y, x] - low) / (high - low)


@compiled
def fog(images: Bytes, wibble: Float32, amount: float, decay: float, half: float) -> Bytes:
    """(x + amount plasma) max / (max + amount)."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    height = np.empty((wibble.shape[1], wibble.shape[2]))
    for i in range(n):
        plasma(wibble[i], decay, height)
        white = images[i].max() / 255.0
        scale = white / (white + amount) if white > 0 else 0.0
        for y in range(h):
            for x in range(w):
                haze = 255 * amount * height[y, x]
                for k in range(c):
                    out[i, y, x, k] = np.uint8(min(max((images[i, y, x, k] + haze) * scale, 0.0), 255.0) + half)
    return out


@compiled
def taps(images: Bytes, weights: Float32, offsets: NDArray[np.int64], half: float) -> Bytes:
    """sum_i weights[i] x(y + dy_i, x + dx_i), edges replicated; offsets `[n taps 2]` differ by image."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    total = np.empty((h, w * c), np.float32)
    for i in range(n):
        rows = images[i].reshape(h, w * c)
        total[:] = np.float32(half)
        for t in range(len(weights)):
            weight, dy, dx = weights[t], offsets[i, t, 0], offsets[i, t, 1]
            first, last = min(max(-dx, 0), w), max(min(w - dx, w), 0)
            for y in range(h):
                row, sums = rows[min(max(y + dy, 0), h - 1)], total[y]
                for x in range(first):
                    for k in range(c):
                        sums[x * c + k] += weight * row[k]
                for j in range(first * c, last * c):
                    sums[j] += weight * row[j + dx * c]
                for x in range(max(last, first), w):
                    for k in range(c):
                        sums[x * c + k] += weight * row[(w - 1) * c + k]
        flat = out[i].reshape(h, w * c)
        for y in range(h):
            for j in range(w * c):
                flat[y, j] = np.uint8(min(total[y, j], np.float32(255.0)))
    return out


@compiled
def affine(images: Bytes, maps: Float64, half: float) -> Bytes:
    """Bilinear sample at `maps[i] @ (y, x, 1)`, black outside; maps `[n 2 3]`."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                row = maps[i, 0, 0] * y + maps[i, 0, 1] * x + maps[i, 0, 2]
                column = maps[i, 1, 0] * y + maps[i, 1, 1] * x + maps[i, 1, 2]
                top, left = math.floor(row + 1e-9), math.floor(column + 1e-9)
                down, right = row - top, column - left
                for k in range(c):
                    value = half
                    for dy in range(2):
                        for dx in range(2):
                            yy, xx = top + dy, left + dx
                            if 0 <= yy < h and 0 <= xx < w:
                                value += (
                                    (down if dy else 1 - down) * (right if dx else 1 - right) * images[i, yy, xx, k]
                                )
                    out[i, y, x, k] = np.uint8(min(max(value, 0.0), 255.0))
    return out
