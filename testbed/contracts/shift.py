"""The contract of a shift, asked on drawn images of several sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from testbed.contracts.base import Question, expect
from testbed.perturb.shift import Shift
from testbed.plugins import Plugin
from testbed.types import Array

SIZES = ((28, 28, 1), (33, 47, 3))
IDS = np.array([7, 1, 100, 3, 5, 2**40, 8])


def questions(plugin: Plugin, params: Mapping[str, Any]) -> list[Question]:
    """All questions, for shifts of single examples; a shift of the set is asked only the common ones."""
    if plugin.facts["level"] != "example" or "image" not in plugin.facts["kinds"]:
        return []
    graded = any(p.name == "severity" for p in plugin.parameters)

    def bound(severity: float = 3.0) -> Shift:
        return Shift(plugin, ({"severity": severity} if graded else {}) | dict(params))

    return [
        (
            "its images have the shape and type of those it is given, for any size and channel count",
            lambda: _valid(bound()),
        ),
        ("it changes what it is given", lambda: _changes(bound(5.0))),
        ("the same seed gives the same images", lambda: _same(bound())),
        ("cut or reordered, the examples get the same images", lambda: _cut(bound())),
    ]


def _images(size: tuple[int, int, int]) -> Array:
    """Smooth random fields uint8 `[n h w c]`: closer to photographs than white noise."""
    coarse = np.random.default_rng(5).uniform(0, 255, (len(IDS), 4, 4, size[2]))
    rows, columns = (np.linspace(0, 3, k).round().astype(int) for k in size[:2])
    ramp = np.linspace(0, 60, size[1])[:, None]
    return np.clip(coarse[:, rows][:, :, columns] * 0.7 + ramp, 0, 255).astype(np.uint8)


def _valid(shift: Shift) -> None:
    for size in SIZES:
        images = _images(size)
        before = images.copy()
        shift(images, ids=IDS)
        expect((images == before).all(), "it wrote into the images that it was given")


def _changes(shift: Shift) -> None:
    images = _images(SIZES[1])
    expect((shift(images, ids=IDS) != images).any(), "it gave every image back as it was, at severity 5")


def _same(shift: Shift) -> None:
    images = _images(SIZES[1])
    one, two = (shift(images, ids=IDS, seed=3) for _ in range(2))
    expect((one == two).all(), "two runs differ; draw from `rng` only")


def _cut(shift: Shift) -> None:
    images = _images(SIZES[1])
    whole = shift(images, ids=IDS, seed=3)
    for rows in (slice(0, 1), slice(1, 5), slice(None, None, -1)):
        part = shift(images[rows], ids=IDS[rows], seed=3)
        off = int((part != whole[rows]).reshape(len(part), -1).any(1).sum())
        expect(
            off == 0,
            f"{off} of {len(part)} images depend on what else is in the batch; draw from `rng`, one row an example",
        )
