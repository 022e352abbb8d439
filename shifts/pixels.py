"""The inner loops over single pixels (see `shifts.kernels` for those over neighbourhoods), compiled on first use.

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
def shot(images: Bytes, level: Float32, below: Float32, start: NDArray[np.int32], shown: Bytes) -> Bytes:
    """shown[smallest count whose P(<= count | pixel value) exceeds the level]."""
    out = np.empty_like(images)
    values, levels, results = images.reshape(-1), level.reshape(-1), out.reshape(-1)
    buckets = start.shape[1]
    for i in range(len(values)):
        value, u = values[i], levels[i]
        count = start[value, int(u * buckets)]
        while below[value, count] <= u:
            count += 1
        results[i] = shown[count]
    return out


@compiled
def brightness(images: Bytes, add: float, half: float) -> Bytes:
    """x V' / V with V the largest channel and V' = min(V + add, 255)."""
    c = images.shape[3]
    out = np.empty_like(images)
    pixels, results = images.reshape(-1, c), out.reshape(-1, c)
    for i in range(len(pixels)):
        most = 0
        for k in range(c):
            most = max(most, int(pixels[i, k]))
        raised = min(max(most + add, 0.0), 255.0)
        for k in range(c):
            value = pixels[i, k] * raised / most if most > 0 else raised
            results[i, k] = np.uint8(min(value + half, 255.0))
    return out


@compiled
def contrast(images: Bytes, factor: float, half: float) -> Bytes:
    """(x - mean) factor + mean, the mean of each channel of each image summed in integers."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    shown = np.empty((256, c), np.uint8)
    for i in range(n):
        pixels, results = images[i].reshape(-1, c), out[i].reshape(-1, c)
        for k in range(c):
            total = 0
            for j in range(h * w):
                total += pixels[j, k]
            mean = total / (h * w)
            for value in range(256):
                shown[value, k] = np.uint8(min(max((value - mean) * factor + mean + half, 0.0), 255.0))
        for j in range(h * w):
            for k in range(c):
                results[j, k] = shown[pixels[j, k], k]
    return out


@compiled
def saturate(images: Bytes, factor: float, add: float, red: bool, half: float) -> Bytes:
    """V - (V - x) S' / S; where S = 0 the pixel turns red by S' (`red`) or stays."""
    c = images.shape[3]
    out = np.empty_like(images)
    pixels, results = images.reshape(-1, c), out.reshape(-1, c)
    for i in range(len(pixels)):
        most, least = 0, 255
        for k in range(c):
            most, least = max(most, int(pixels[i, k])), min(least, int(pixels[i, k]))
        if most == least:
            faded = most * (1 - min(max(add, 0.0), 1.0)) if red else float(most)
            for k in range(c):
                results[i, k] = np.uint8(min((faded if k > 0 else float(most)) + half, 255.0))
            continue
        before = (most - least) / most
        share = min(max(before * factor + add, 0.0), 1.0) / before
        for k in range(c):
            results[i, k] = np.uint8(min(max(most - (most - pixels[i, k]) * share + half, 0.0), 255.0))
    return out


@compiled
def flakes(
    layer: Float32,
    lower_y: NDArray[np.int64],
    upper_y: Float32,
    lower_x: NDArray[np.int64],
    upper_x: Float32,
    threshold: float,
) -> Bytes:
    """The layer magnified, 0 below the threshold, clipped to [0, 1] and cut to 8 bits."""
    n, h, w = layer.shape
    out = np.empty((n, h, w), np.uint8)
    line = np.empty(w, np.float32)
    for i in range(n):
        for y in range(h):
            low, high, share = layer[i, lower_y[y]], layer[i, min(lower_y[y] + 1, h - 1)], upper_y[y]
            for x in range(w):
                line[x] = low[x] + share * (high[x] - low[x])
            for x in range(w):
                left = lower_x[x]
                value = line[left] + upper_x[x] * (line[min(left + 1, w - 1)] - line[left])
                out[i, y, x] = (
                    np.uint8(min(value, np.float32(1.0)) * np.float32(255.0)) if value >= threshold and value > 0 else 0
                )
    return out


@compiled
def snowed(images: Bytes, streaks: Bytes, mix: float, twice: bool) -> Bytes:
    """mix x + (1 - mix) max(x, 1.5 grey + 127.5) plus the streaks, and once more upside down (`twice`)."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    half = np.float32(0.0 if twice else 0.5)
    keep, white = np.float32(mix), np.float32(1 - mix)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                pixel = images[i, y, x]
                if c == 3:
                    grey = np.float32(0.299) * pixel[0] + np.float32(0.587) * pixel[1] + np.float32(0.114) * pixel[2]
                else:
                    total = 0
                    for k in range(c):
                        total += pixel[k]
                    grey = np.float32(total / c)
                bright = np.float32(1.5) * grey + np.float32(127.5)
                snow = np.float32(streaks[i, y, x]) + half
                if twice:
                    snow += np.float32(streaks[i, h - 1 - y, w - 1 - x])
                for k in range(c):
                    value = keep * pixel[k] + white * max(np.float32(pixel[k]), bright) + snow
                    out[i, y, x, k] = np.uint8(min(value, np.float32(255.0)))
    return out


@compiled
def covered(images: Bytes, cover: Float32, colour: Float32, hides: bool, half: float) -> Bytes:
    """x + cover colour, or x (1 - cover) + cover colour where the cover `hides` the image; cover `[n h w]`."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    for i in range(n):
        for y in range(h):
            for x in range(w):
                m = cover[i, y, x]
                seen = np.float32(1.0) - m if hides else np.float32(1.0)
                for k in range(c):
                    value = images[i, y, x, k] * seen + m * colour[k] + np.float32(half)
                    out[i, y, x, k] = np.uint8(min(value, np.float32(255.0)))
    return out


@compiled
def pixelated(
    images: Bytes,
    first_y: NDArray[np.int64],
    weight_y: NDArray[np.int32],
    back_y: NDArray[np.int64],
    first_x: NDArray[np.int64],
    weight_x: NDArray[np.int32],
    back_x: NDArray[np.int64],
) -> Bytes:
    """A box filter along the rows, rounded to 8 bits, one along the columns, rounded, and each point's small point."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    small_w, taps = len(first_x), weight_x.shape[1]
    across = np.empty((h, small_w * c), np.uint8)
    total, line = np.empty(small_w * c, np.int32), np.empty(w * c, np.uint8)
    for i in range(n):
        for y in range(h):
            for x in range(small_w):
                for k in range(c):
                    value = np.int32(1 << 21)
                    for t in range(taps):
                        value += np.int32(images[i, y, first_x[x] + t, k]) * weight_x[x, t]
                    across[y, x * c + k] = value >> np.int32(22)
        shown = -1
        for y in range(h):
            if back_y[y] != shown:
                shown = back_y[y]
                total[:] = np.int32(1 << 21)
                for t in range(weight_y.shape[1]):
                    row, weight = across[first_y[shown] + t], weight_y[shown, t]
                    for j in range(small_w * c):
                        total[j] += np.int32(row[j]) * weight
                for x in range(w):
                    for k in range(c):
                        line[x * c + k] = total[back_x[x] * c + k] >> np.int32(22)
            out[i, y] = line.reshape(w, c)
    return out


@compiled
def frosted(
    images: Bytes,
    ice: Bytes,
    which: NDArray[np.int64],
    start: NDArray[np.int64],
    keep: float,
    add: float,
    scale: float,
    half: float,
) -> Bytes:
    """keep x + add texture; the texture is periodic, read from `start` at every 1 / scale pixels, bilinear."""
    n, h, w, c = images.shape
    out = np.empty_like(images)
    side, stride = ice.shape[1], 1.0 / scale
    for i in range(n):
        texture = ice[which[i]]
        for y in range(h):
            row = start[i, 0] + (y + 0.5) * stride - 0.5 + 1e-9
            top = math.floor(row)
            down = row - top
            y0, y1 = top % side, (top + 1) % side
            for x in range(w):
                column = start[i, 1] + (x + 0.5) * stride - 0.5 + 1e-9
                left = math.floor(column)
                right = column - left
                x0, x1 = left % side, (left + 1) % side
                for k in range(c):
                    high = texture[y0, x0, k] * (1 - right) + texture[y0, x1, k] * right
                    low = texture[y1, x0, k] * (1 - right) + texture[y1, x1, k] * right
                    value = keep * images[i, y, x, k] + add * (high * (1 - down) + low * down) + half
                    out[i, y, x, k] = np.uint8(min(max(value, 0.0), 255.0))
    return out
