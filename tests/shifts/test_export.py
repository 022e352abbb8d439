"""Exports: what is read back is what was written, in every format, and mlcroissant accepts the description."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.data.export import About, export
from testbed.errors import DataError, UsageError
from testbed.types import Examples, Spec

ABOUT = About("fog-3", "generated test images (digest abc)", {"shift": "fog", "severity": 3, "seed": 0, "version": 1})
SPEC = Spec("image", (6, 5, 3), 3, class_names=("cat", "dog", "a/b"))


def examples(n: int = 10, spec: Spec = SPEC) -> Examples:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (n, *spec.shape)).astype(spec.dtype)
    return Examples(x, rng.integers(0, 3, n), np.arange(n) * 11, spec)


def batches(whole: Examples, size: int = 4) -> Iterator[Examples]:
    for start in range(0, len(whole), size):
        yield whole.take(slice(start, start + size))


def described(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "croissant.json").read_text())


@pytest.mark.parametrize("form", ["hf", "parquet", "npy", "images"])
def test_what_is_read_back_is_what_was_written(form: Any, tmp_path: Path) -> None:
    whole = examples()
    folder = export(batches(whole), tmp_path / "out", form=form, about=ABOUT)
    if form == "npy":
        assert (np.load(folder / "images.npy") == whole.x).all()
        assert (np.load(folder / "labels.npy") == whole.y).all() and (np.load(folder / "ids.npy") == whole.ids).all()
    elif form == "images":
        from PIL import Image

        with (folder / "images.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [int(r["id"]) for r in rows] == whole.ids.tolist()
        for row, x in zip(rows, whole.x, strict=True):
            assert (np.asarray(Image.open(folder / row["file_name"])) == x).all()
            assert hashlib.sha256((folder / row["file_name"]).read_bytes()).hexdigest() == row["sha256"]
        assert {p.name for p in folder.iterdir() if p.is_dir()} <= {"cat", "dog", "a_b"}
    else:
        datasets = pytest.importorskip("datasets")
        read = (
            datasets.load_from_disk(str(folder))
            if form == "hf"
            else datasets.Dataset.from_parquet(str(folder / "data.parquet"), cache_dir=str(tmp_path / "cache"))
        )
        assert (np.stack([np.asarray(i) for i in read["image"]]) == whole.x).all()
        assert list(read["label"]) == whole.y.tolist() and list(read["id"]) == whole.ids.tolist()
        assert read.features["label"].names == list(SPEC.class_names)
    for listed in described(folder)["distribution"]:
        assert hashlib.sha256((folder / listed["contentUrl"]).read_bytes()).hexdigest() == listed["sha256"]


@pytest.mark.parametrize("form", ["hf", "parquet", "npy", "images"])
def test_mlcroissant_accepts_the_description(form: Any, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    folder = export(batches(examples()), tmp_path / "out", form=form, about=ABOUT)
    dataset = mlcroissant.Dataset(jsonld=str(folder / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors and dataset.metadata.name == "fog-3"
    if form in ("parquet", "images"):
        rows = list(dataset.records("examples"))
        assert [r["examples/id"] for r in rows] == examples().ids.tolist()


def test_the_content_hash_is_that_of_the_set_whatever_the_format_or_the_batches(tmp_path: Path) -> None:
    runs = (("npy", 4), ("parquet", 3), ("images", 100))
    hashes = {
        described(export(batches(examples(), size), tmp_path / form, form=form, about=ABOUT))["testbed:contentSha256"]
        for form, size in runs
    }
    assert len(hashes) == 1
    other = Examples(examples().x, examples().y[::-1], examples().ids, SPEC)
    assert (
        described(export([other], tmp_path / "other", form="npy", about=ABOUT))["testbed:contentSha256"] not in hashes
    )


def test_grey_images_and_tables_have_a_format(tmp_path: Path) -> None:
    grey = Spec("image", (4, 4, 1), 3)
    assert export([examples(3, grey)], tmp_path / "grey", form="parquet", about=ABOUT).is_dir()
    table = Spec("tabular", (7,), 3, "float32", "f")
    folder = export([examples(3, table)], tmp_path / "table", form="npy", about=ABOUT)
    assert np.load(folder / "images.npy").dtype == np.float32
    with pytest.raises(DataError, match="use format 'npy'"):
        export([examples(3, table)], tmp_path / "no", form="hf", about=ABOUT)
    assert not (tmp_path / "no").exists() and not (tmp_path / "no.part").exists()


def test_bad_requests_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        export([examples()], tmp_path / "out", form="parket", about=ABOUT)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="nothing to export"):
        export([], tmp_path / "out", form="npy", about=ABOUT)
    with pytest.raises(DataError, match="one spec"):
        export([examples(), examples(spec=Spec("image", (6, 5, 1), 3))], tmp_path / "out", form="npy", about=ABOUT)
    assert not list(tmp_path.iterdir())
    export([examples()], tmp_path / "out", form="npy", about=ABOUT)
    with pytest.raises(UsageError, match="exists already"):
        export([examples()], tmp_path / "out", form="npy", about=ABOUT)
