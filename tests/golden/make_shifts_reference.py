"""Makes shifts_reference.npz: outputs and statistics of the published corruption scripts, for tests/shifts.

    python tests/golden/make_shifts_reference.py FOLDER

FOLDER holds modules `hend32` and `hend224`: the functions of make_cifar_c.py and make_imagenet_c.py of
github.com/hendrycks/robustness at 8190fe3, with only the spellings changed that today's libraries need (`multichannel`,
`np.float_`, `scipy.ndimage.interpolation`, `np.fromstring`) and the frost files beside them. Made with scikit-image
0.26.0, Pillow 13.0.0, OpenCV 5.0.0, SciPy 1.17.1 and ImageMagick 6.9.11 through Wand.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HERE = Path(__file__).parent


def helpers() -> Any:
    """The test module, which says what is compared."""
    spec = importlib.util.spec_from_file_location("fidelity", HERE.parent / "shifts" / "test_shift_fidelity.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(module: Any, name: str, images: np.ndarray, severity: int, seed: int) -> np.ndarray:
    """The reference's output, cut to uint8 as its scripts do."""
    np.random.seed(seed)  # noqa: NPY002 - the reference draws from the global generator
    return np.stack([np.uint8(getattr(module, name)(Image.fromarray(i), severity)) for i in images])


def main() -> None:
    """Write the file."""
    sys.path.insert(0, sys.argv[1])
    fidelity, found = helpers(), {}
    for params, (size, count) in fidelity.EXACT_SETS.items():
        images = fidelity.photographs(size, count)
        for name in fidelity.EXACT:
            if params == "cifar32" or name != "pixelate":  # its script fixes the size at 224
                module = importlib.import_module("hend32" if params == "cifar32" else "hend224")
                found[f"{params}/{name}"] = np.stack([run(module, name, images, s, 0) for s in range(1, 6)])
    images = fidelity.photographs(32, fidelity.STATISTICS_OF)
    module = importlib.import_module("hend32")
    for name in fidelity.RANDOM:
        rows = []
        for severity in range(1, 6):
            one, two = (fidelity.statistics(images, run(module, name, images, severity, seed)) for seed in (1, 2))
            rows.append([(one.mean(0) + two.mean(0)) / 2, (one - two).var(axis=0) / 2])
        found[f"statistics/{name}"] = np.array(rows)
        print(name, flush=True)
    np.savez_compressed(HERE / "shifts_reference.npz", **found)


if __name__ == "__main__":
    main()
