"""Bringing images of one kind to the size and channels of another, by one rule that is written down.

Rule, in this order
1. channels: grey to RGB by repeating; RGB to grey by ITU-R 601 luma, (299 R + 587 G + 114 B) / 1000, rounded half up;
2. aspect: the centred part with the target's aspect ratio;
3. size: Pillow's bilinear filter with antialiasing (its support grows with the reduction), on uint8.
Nothing is done where nothing is needed. Resizing leaves traces that a detector can use; so an OOD number on a resized
set is a number on that set resized by this rule, and the rule is part of the recipe.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from testbed.errors import UsageError
from testbed.types import Array, Spec

VERSION = 1


def rule(source: Spec, target: Spec) -> str:
    """The steps that bring `source` to `target`, in words; "as is" where there are none.

    >>> rule(Spec("image", (32, 32, 3), 10), Spec("image", (28, 28, 1), 10))
    'RGB to grey by ITU-R 601 luma; 32x32 to 28x28 by antialiased bilinear'
    """
    _check(source, target)
    (h, w, c), (to_h, to_w, to_c) = source.shape, target.shape
    steps = []
    if c != to_c:
        steps.append("RGB to grey by ITU-R 601 luma" if to_c == 1 else "grey repeated to RGB")
    if h * to_w != w * to_h:
        steps.append(f"centre crop to {to_w}:{to_h}")
    if (h, w) != (to_h, to_w):
        steps.append(f"{h}x{w} to {to_h}x{to_w} by antialiased bilinear")
    return "; ".join(steps) or "as is"


def adapt(x: Array, source: Spec, target: Spec) -> Array:
    """uint8 `[n h w c]` of `source` as uint8 images with the shape of `target`.

    >>> x = np.array([[[[10, 20, 30]]]], dtype=np.uint8)
    >>> adapt(x, Spec("image", (1, 1, 3), 2), Spec("image", (1, 1, 1), 2)).tolist()
    [[[[18]]]]
    """
    _check(source, target)
    x = to_channels(x, target.shape[2])
    if x.shape[1:] == target.shape:
        return x
    return (
        np.stack([resize(image, target.shape[0], target.shape[1]) for image in x])
        if len(x)
        else np.empty((0, *target.shape), np.uint8)
    )


def adapted(source: Spec, target: Spec) -> Spec:
    """The spec after `adapt`: shape of the target, classes of the source."""
    return replace(source, shape=target.shape)


def to_channels(x: Array, channels: int) -> Array:
    """uint8 `[... c]` with 1 or 3 channels from images with 1 or 3."""
    if x.shape[-1] == channels:
        return x
    if channels == 3:
        return np.repeat(x, 3, axis=-1)
    weights = np.array([299, 587, 114], dtype=np.uint32)
    return ((x.astype(np.uint32) @ weights + 500) // 1000).astype(np.uint8)[..., None]


def resize(image: Array, height: int, width: int) -> Array:
    """One uint8 image `[h w c]`, cropped at the centre to the new aspect ratio and resized."""
    from PIL import Image

    h, w, channels = image.shape
    crop_h, crop_w = min(h, w * height // width or 1), min(w, h * width // height or 1)
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    image = image[top : top + crop_h, left : left + crop_w]
    planes = [
        Image.fromarray(np.ascontiguousarray(image[..., c])).resize((width, height), Image.Resampling.BILINEAR)
        for c in range(channels)
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def _check(source: Spec, target: Spec) -> None:
    for spec in (source, target):
        if spec.kind != "image" or spec.layout != "hwc" or spec.dtype != "uint8" or spec.shape[2] not in (1, 3):
            raise UsageError(
                f"only uint8 images [h w c] with 1 or 3 channels can be adapted, "
                f"not {spec.kind} {spec.dtype} {list(spec.shape)}"
            )
