"""Images a second of every corruption, and the time of the full CIFAR-10-C (19 x 5 x 10,000 images at 32 px, one
thread).

    python benchmarks/bench_shifts.py [--size 32] [--images 1000] [--peers FOLDER]

Each corruption is timed at its five severities; compilation is apart and printed. The whole set is measured where
`--images` is 10000, else scaled up from the rates. `imagecorruptions` is timed beside where it imports; `--peers`
names a folder with further reference modules that offer one function a corruption, `f(PIL image, severity)`.
Seconds are CPU seconds of this process (`time.process_time`), so that a shared machine disturbs less.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import Any

import cv2
import numpy as np

from testbed.perturb.shift import Shift
from testbed.plugins import read

CORRUPTIONS = (
    "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "defocus_blur", "glass_blur", "motion_blur",
    "zoom_blur", "gaussian_blur", "snow", "frost", "fog", "brightness", "contrast", "saturate", "elastic_transform",
    "pixelate", "jpeg_compression", "spatter",
)  # fmt: skip
SETS = {32: "cifar32", 64: "tiny64", 224: "imagenet224", 299: "inception299"}


def photographs(size: int, n: int) -> np.ndarray:
    """Crops of the two photographs that scikit-learn ships, shrunk so that a 32 px crop shows more than one leaf."""
    from sklearn.datasets import load_sample_images

    rng, crops = np.random.default_rng(0), []
    shrink = 4 if size <= 64 else 1
    photos = [np.ascontiguousarray(p[::shrink, ::shrink]) for p in load_sample_images().images]
    for i in range(n):
        photo = photos[i % 2]
        y, x = (rng.integers(0, photo.shape[k] - size + 1) for k in (0, 1))
        crops.append(photo[y : y + size, x : x + size])
    return np.stack(crops)


def seconds(work: Any) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def peer_seconds(run: Any, name: str, images: np.ndarray, severity: int) -> float:
    """CPU seconds of a reference on these images, one after the other as it works."""
    return seconds(lambda: [run(name, image, severity) for image in images])


def peers(folder: str | None, size: int) -> dict[str, Any]:
    """Reference name -> function(corruption, image, severity), of those that import."""
    found: dict[str, Any] = {}
    if folder:
        sys.path.insert(0, folder)
    try:
        package = importlib.import_module("imagecorruptions")
        found["imagecorruptions"] = lambda name, image, severity: package.corrupt(image, severity, name)
    except ImportError:
        print("imagecorruptions does not import here: its column is left out")
    try:
        module = importlib.import_module(f"hend{size}")
        from PIL import Image

        found["hendrycks"] = lambda name, image, severity: np.uint8(
            getattr(module, name)(Image.fromarray(image), severity)
        )
    except ImportError:
        print(f"no module hend{size} in --peers: its column is left out")
    return found


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--size", type=int, default=32, choices=SETS)
    options.add_argument("--images", type=int, default=1000)
    options.add_argument("--peer-images", type=int, default=20)
    options.add_argument("--peers", default=None)
    given = options.parse_args()
    cv2.setNumThreads(1)
    images, ids = photographs(given.size, given.images), np.arange(given.images)
    others = peers(given.peers, given.size)
    print(f"{given.images} images of {given.size} px, parameter set {SETS[given.size]}, one thread")
    print(
        f"{'corruption':18s} {'compile s':>9s} {'img/s':>9s} "
        + " ".join(f"{name:>18s} {'ratio':>6s}" for name in others)
    )
    total, totals = 0.0, dict.fromkeys(others, 0.0)
    for name in CORRUPTIONS:
        shifts = [Shift(read("shift", name), {"severity": s, "params": SETS[given.size]}) for s in range(1, 6)]
        first = seconds(lambda shifts=shifts: [s(images[:2], ids=ids[:2]) for s in shifts])
        ours = sum(seconds(lambda s=s: s(images, ids=ids)) for s in shifts) / (5 * len(images))
        total += ours
        row = f"{name:18s} {first:9.2f} {1 / ours:9.0f} "
        for other, run in others.items():
            some = images[: given.peer_images]
            run(name, some[0], 1)  # what a reference compiles or loads on first use is not its rate
            theirs = sum(peer_seconds(run, name, some, severity) for severity in range(1, 6)) / (5 * len(some))
            totals[other] += theirs
            row += f"{1 / theirs:18.0f} {theirs / ours:6.1f} "
        print(row, flush=True)
    print(f"all 19 x 5 x 10,000: {total * 50_000:.1f} s" + ("" if given.images == 10_000 else " (scaled up)"))
    for other, theirs in totals.items():
        print(f"  {other}: {theirs * 50_000 / 60:.1f} min (scaled up), ratio {theirs / total:.1f}")


if __name__ == "__main__":
    main()
