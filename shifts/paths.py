"""Inner loops that follow a path through the image: pixels under a line, coefficients that a turning pixel passes.

Their cost is that of the pixels they touch. One image at a time, compiled on first use and cached.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@compiled
def draw_lines(out: Float64, lines: Float64) -> None:
    """x (1 - cover) + 128 cover into `out` `[n h w c]`, a line after the other, for the pixels less than 1 away.

    lines   `[n lines 4]`: row and column of a point, sine and cosine of the angle; cover = max(1 - distance, 0)
    """
    n, h, w, c = out.shape
    for i in range(n):
        for k in range(lines.shape[1]):
            row, column, sine, cosine = lines[i, k, 0], lines[i, k, 1], lines[i, k, 2], lines[i, k, 3]
            steep = abs(cosine) >= abs(sine)  # then a row's pixels are at most sqrt(2) from where the line crosses it
            for along in range(h if steep else w):
                if steep:
                    middle, wide, last = column + (along - row) * sine / cosine, 1 / abs(cosine), w - 1
                else:
                    middle, wide, last = row + (along - column) * cosine / sine, 1 / abs(sine), h - 1
                if middle < -2 or middle > last + 2:
                    continue
                for across in range(max(math.floor(middle - wide), 0), min(math.ceil(middle + wide), last) + 1):
                    y, x = (along, across) if steep else (across, along)
                    cover = 1 - abs((y - row) * sine - (x - column) * cosine)
                    if cover > 0:
                        for j in range(c):
                            out[i, y, x, j] = out[i, y, x, j] * (1 - cover) + 128 * cover


@compiled
def turn_mean(splines: Float32, turns: Float64, out: Float32) -> None:
    """The weighted mean of rotations about the middle, from cubic B-spline coefficients, into `out` `[h w planes]`.

    splines   `[h + 4, w + 4, planes]`, 2 coefficients beyond each edge; turns `[t 3]`: sine, cosine, weight.
    All planes turn alike, and where a rotation looks outside it sees black.
    """
    h, w, planes = out.shape
    cy, cx, sixth, most = (h - 1) / 2, (w - 1) / 2, np.float32(1 / 6), np.float32(2 / 3)
    one, half = np.float32(1), np.float32(0.5)
    wy = np.empty(4, np.float32)
    for y in range(h):
        for x in range(w):
            total = out[y, x]
            total[:] = 0
            for t in range(len(turns)):
                row = turns[t, 1] * (y - cy) + turns[t, 0] * (x - cx) + cy
                column = turns[t, 1] * (x - cx) - turns[t, 0] * (y - cy) + cx
                if row < 0 or row > h - 1 or column < 0 or column > w - 1:
                    continue
                top, left = int(row), int(column)
                share = np.float32(turns[t, 2])
                f, g = np.float32(row - top), np.float32(column - left)
                e, d = one - f, one - g
                wy[0] = share * e * e * e * sixth
                wy[1] = share * (most - f * f + f * f * f * half)
                wy[2] = share * (most - e * e + e * e * e * half)
                wy[3] = share * f * f * f * sixth
                v0, v1 = d * d * d * sixth, most - g * g + g * g * g * half
                v2, v3 = most - d * d + d * d * d * half, g * g * g * sixth
                for a in range(4):
                    s0, s1 = splines[top + 1 + a, left + 1], splines[top + 1 + a, left + 2]
                    s2, s3 = splines[top + 1 + a, left + 3], splines[top + 1 + a, left + 4]
                    u0, u1, u2, u3 = wy[a] * v0, wy[a] * v1, wy[a] * v2, wy[a] * v3
                    for k in range(planes):
                        total[k] += u0 * s0[k] + u1 * s1[k] + u2 * s2[k] + u3 * s3[k]
