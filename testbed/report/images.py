"""Pairs of clean and perturbed images: how the runner keeps them and how the page reads them.

A folder `images/` in the run folder holds `index.json` and PNG files named by their content, so a clean image that
serves many conditions is kept once. `index.json` is a list of

    {"model": str, "condition": str, "condition_id": str, "id": int, "label": str, "prediction": str,
     "confidence": float, "clean": "<file>.png", "perturbed": "<file>.png"}

`condition` and `condition_id` are those of samples.parquet; `label` and `prediction` are class names (or numbers as
text); `prediction` and `confidence` (in [0, 1]) are the uncalibrated model's on the perturbed image. Optional:
`clean_prediction`, `clean_confidence`, the same on the clean image, and `dataset`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from testbed.digest import digest_bytes
from testbed.errors import DataError
from testbed.types import Array

INDEX = "index.json"

#: Keys that every row of the index has; see the module docstring.
KEYS = ("model", "condition", "id", "label", "prediction", "confidence", "clean", "perturbed")


def write_strip(folder: str | Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write the rows and their images; `clean` and `perturbed` are arrays here. Returns the index file.

    An image is uint8 `[h w c]`, or float32 `[c h w]` in [0, 1] as attacks leave it (rounded to 8 bits for show), with
    one or three channels. An index already in the folder is replaced.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for row in rows:
        if absent := [key for key in KEYS if key not in row]:
            raise DataError(f"an image row needs {', '.join(KEYS)}; it lacks {', '.join(absent)}")
        files = {key: _save(folder, png(row[key])) for key in ("clean", "perturbed")}
        index.append({**row, **files, "id": int(row["id"]), "confidence": round(float(row["confidence"]), 6)})
    path = folder / INDEX
    text = json.dumps(index, ensure_ascii=False).encode()
    if not path.is_file() or path.read_bytes() != text:
        path.write_bytes(text)
    return path


def read_strip(folder: str | Path) -> list[dict[str, Any]]:
    """The index of an images folder; empty where there is none. DataError where it is not such an index."""
    path = Path(folder) / INDEX
    try:
        rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); run the grid again to rewrite it") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) and set(KEYS) <= row.keys() for row in rows):
        raise DataError(f"{path}: expected a list of rows with {', '.join(KEYS)}; run the grid again to rewrite it")
    return rows


def png(image: Array) -> bytes:
    """One image as the bytes of a PNG file.

    >>> png(np.zeros((4, 4, 1), np.uint8))[:4]
    b'\\x89PNG'
    """
    from PIL import Image

    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        pixels = np.rint(np.clip(np.moveaxis(pixels, 0, -1), 0, 1) * 255).astype(np.uint8)
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3):
        raise DataError(
            f"expected uint8 [h w c] or float [c h w] with 1 or 3 channels, got {pixels.dtype} {pixels.shape}"
        )
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _save(folder: Path, data: bytes) -> str:
    name = f"{digest_bytes(data)}.png"
    if not (folder / name).exists():
        (folder / name).write_bytes(data)
    return name
