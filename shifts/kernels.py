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


@compiled
def separable(images: Bytes, weights: Float64, sideways: Float64, half: float) -> Bytes:
    """Symmetric weights, given from the centre outwards, along the columns, then others along rows; edges replicated.

    Float64, rows first, outermost pairs first, on x / 255: SciPy's order of sums. Glass blur cuts the result to
    uint8 twice, so a last bit can cost a grey level.
    """
    n, h, w, c = images.shape
    out = np.empty_like(images)
    radius, reach, length = len(weights) - 1, len(sideways) - 1, w * c
    unit = np.empty((h, length))
    down = np.empty(length + 2 * reach * c)
    total = np.empty(length)
    for i in range(n):
        rows, flat = images[i].reshape(h, length), out[i].reshape(h, length)
        for y in range(h):
            for j in range(length):
                unit[y, j] = rows[y, j] / 255.0
        for y in range(h):
            inner = down[reach * c : reach * c + length]
            for j in range(length):
                inner[j] = unit[y, j] * weights[0]
            for t in range(radius, 0, -1):
                above, below, weight = unit[max(y - t, 0)], unit[min(y + t, h - 1)], weights[t]
                for j in range(length):
                    inner[j] += (above[j] + below[j]) * weight
            for j in range(reach * c):
                down[j] = inner[j % c]
                down[reach * c + length + j] = inner[length - c + j % c]
            for j in range(length):
                total[j] = inner[j] * sideways[0]
            for t in range(reach, 0, -1):
                left, right, weight = (reach - t) * c, (reach + t) * c, sideways[t]
                for j in range(length):
                    total[j] += (down[j + left] + down[j + right]) * weight
            for j in range(length):
                flat[y, j] = np.uint8(min(max(total[j], 0.0), 1.0) * 255.0 + half)
    return out


@compiled
def shuffle(images: Bytes, offsets: Float32, passes: int, delta: int, swap: bool, every_other: bool) -> None:
    """Glass: pixels take (or swap with) a neighbour in the window -delta..delta-1, last pixel first, in place.

    `offsets` `[n passes h w 2]` are uniform; the fraction left over by the column's offset decides, where `every_other`
    says so, whether a pixel moves at all.
    """
    n, h, w, c = images.shape
    for i in range(n):
        image = images[i]
        for p in range(passes):
            for y in range(h - delta, delta, -1):
                for x in range(w - delta, delta, -1):
                    down, right = offsets[i, p, y, x, 0] * (2 * delta), offsets[i, p, y, x, 1] * (2 * delta)
                    if every_other and right - math.floor(right) < 0.5:
                        continue
                    yy, xx = y + int(down) - delta, x + int(right) - delta
                    for k in range(c):
                        old = image[y, x, k]
                        image[y, x, k] = image[yy, xx, k]
                        if swap:
                            image[yy, xx, k] = old


@compiled
def zoom_mean(
    images: Bytes,
    lower_y: NDArray[np.int64],
    upper_y: Float32,
    lower_x: NDArray[np.int64],
    upper_x: Float32,
    half: float,
) -> Bytes:
    """Mean of the image and its magnifications, whose neighbours and weights are `[factors size]`."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    total, line = np.empty(w * c, np.float32), np.empty(w * c, np.float32)
    scale = np.float32(1.0 / (len(lower_y) + 1))
    for i in range(n):
        rows, flat = images[i].reshape(h, w * c), out[i].reshape(h, w * c)
        for y in range(h):
            for j in range(w * c):
                total[j] = rows[y, j]
            for z in range(len(lower_y)):
                first = lower_y[z, y]
                low, high, share = rows[first], rows[min(first + 1, h - 1)], upper_y[z, y]
                for j in range(w * c):
                    line[j] = low[j] + share * (np.float32(high[j]) - np.float32(low[j]))
                for x in range(w):
                    left, part = lower_x[z, x] * c, upper_x[z, x]
                    right = min(left + c, (w - 1) * c)
                    for k in range(c):
                        total[x * c + k] += line[left + k] + part * (line[right + k] - line[left + k])
            for j in range(w * c):
                flat[y, j] = np.uint8(min(total[j] * scale + np.float32(half), np.float32(255.0)))
    return out


@compiled
def mirrored(at: int, size: int, repeat: bool) -> int:
    """An index folded back into 0..size-1; `repeat` says whether the edge pixel comes twice."""
    if size == 1:
        return 0
    period = 2 * size if repeat else 2 * size - 2
    folded = at % period
    if folded < size:
        return folded
    return period - 1 - folded if repeat else period - folded


@compiled
def elastic(images: Bytes, maps: Float64, field: Float32, twice: bool, half: float) -> Bytes:
    """Affine map, then displacement by `field` `[n 2 h w]` (dx, dy); resampled `twice`, or once by both together."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    moved = np.empty((h, w, c), np.float32)
    for i in range(n):
        a = maps[i]
        for y in range(h):
            for x in range(w):
                row, column = a[0, 0] * y + a[0, 1] * x + a[0, 2], a[1, 0] * y + a[1, 1] * x + a[1, 2]
                if not twice:
                    row, column = float(y), float(x)
                top, left = math.floor(row), math.floor(column)
                down, right = np.float32(row - top), np.float32(column - left)
                y0, y1 = mirrored(top, h, False), mirrored(top + 1, h, False)
                x0, x1 = mirrored(left, w, False), mirrored(left + 1, w, False)
                for k in range(c):
                    high = images[i, y0, x0, k] + right * (np.float32(images[i, y0, x1, k]) - images[i, y0, x0, k])
                    low = images[i, y1, x0, k] + right * (np.float32(images[i, y1, x1, k]) - images[i, y1, x0, k])
                    moved[y, x, k] = high + down * (low - high)
        for y in range(h):
            for x in range(w):
                row, column = float(y + field[i, 1, y, x]), float(x + field[i, 0, y, x])
                if not twice:
                    row, column = a[0, 0] * row + a[0, 1] * column + a[0, 2], a[1, 0] * row + a[1, 1] * column + a[1, 2]
                top, left = math.floor(row), math.floor(column)
                down, right = np.float32(row - top), np.float32(column - left)
                y0, y1 = mirrored(top, h, True), mirrored(top + 1, h, True)
                x0, x1 = mirrored(left, w, True), mirrored(left + 1, w, True)
                for k in range(c):
                    high = moved[y0, x0, k] + right * (moved[y0, x1, k] - moved[y0, x0, k])
                    low = moved[y1, x0, k] + right * (moved[y1, x1, k] - moved[y1, x0, k])
                    out[i, y, x, k] = np.uint8(
                        min(max(high + down * (low - high) + np.float32(half), np.float32(0.0)), np.float32(255.0))
                    )
    return out


@compiled
def thinned(down: Float64, across: Float64, size: Float64, least: float) -> Float64:
    """The gradient's size where it is at least `least` and no smaller than both neighbours along it, else 0.

    The neighbours are interpolated between the two grid points that the gradient passes between.
    """
    h, w = size.shape
    out = np.zeros((h, w))
    for y in range(1, h - 1):
        for x in range(1, w - 1):
            if size[y, x] < least:
                continue
            dy, dx = down[y, x], across[y, x]
            sy, sx = (1 if dy >= 0 else -1), (1 if dx >= 0 else -1)
            if abs(dy) >= abs(dx):
                part = abs(dx) / abs(dy)
                ahead = size[y + sy, x + sx] * part + size[y + sy, x] * (1 - part)
                behind = size[y - sy, x - sx] * part + size[y - sy, x] * (1 - part)
            else:
                part = abs(dy) / abs(dx)
                ahead = size[y + sy, x + sx] * part + size[y, x + sx] * (1 - part)
                behind = size[y - sy, x - sx] * part + size[y, x - sx] * (1 - part)
            if size[y, x] >= ahead and size[y, x] >= behind:
                out[y, x] = size[y, x]
    return out
