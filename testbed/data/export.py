"""Perturbed sets as files that others read: Hugging Face data sets, parquet, CIFAR-10-C arrays, image folders.

    hf       a folder for `datasets.load_from_disk`: image (PNG), label, id
    parquet  one file with the same columns, for `datasets.load_dataset("parquet", ...)`
    npy      images.npy `[n h w c]` uint8 (or what the set holds), labels.npy, ids.npy: CIFAR-10-C's layout
    images   <class>/<id>.png and images.csv with each file's label, id and SHA-256

Each folder also gets croissant.json (Croissant 1.0, https://docs.mlcommons.org/croissant): where the set is from,
which shift
at which severity with which seed and version made it, the SHA-256 of every file but the PNGs, and of the content (ids,
labels and values in order, so the same for all four layouts).

Sets come as an iterable of `Examples` and are written as they come: memory is that of one batch, whatever n is.
Nothing is published half-done: files are written into a folder beside `out`, which is renamed at the end.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from testbed.errors import DataError, UsageError, nearest
from testbed.types import Array, Examples, Spec

Format = Literal["hf", "parquet", "npy", "images"]

#: Bytes reserved for the header of an .npy file whose length is known only at the end.
HEADER = 128


@dataclass(frozen=True)
class About:
    """What is said of an exported set, in croissant.json.

    source   data set it was made from and its fingerprint; licence and citation where the user gives them
    made_by  shift or attack, severity, seed, version and parameters: whatever remakes it
    """

    name: str
    source: str
    made_by: Mapping[str, Any] = field(default_factory=dict)
    license: str = "unknown: that of the source"
    url: str = ""
    cite: str = ""


def export(batches: Iterable[Examples], out: str | Path, *, form: Format, about: About) -> Path:
    """Write the set into the new folder `out` and describe it there.

    batches  the set in order, in pieces of one spec; image sets are uint8 `[n h w c]`
    """
    if form not in get_args(Format):
        raise UsageError(f"unknown export format {form!r}; {nearest(form, get_args(Format))}")
    target = Path(out)
    if target.exists():
        raise UsageError(f"{target} exists already; name a new folder or remove it")
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        content = _Content()
        spec = _WRITERS[form](part, content.watched(batches))
        described = croissant(part, spec, content, form, about)
        (part / "croissant.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    return target


class _Content:
    """Counts and hashes what goes by, and checks that all pieces are alike."""

    def __init__(self) -> None:
        self.n, self.hash = 0, hashlib.sha256()

    def watched(self, batches: Iterable[Examples]) -> Iterator[Examples]:
        """The same batches."""
        spec: Spec | None = None
        for batch in batches:
            spec = spec or batch.spec
            if batch.spec != spec:
                raise DataError(f"the pieces of a set must have one spec; got {batch.spec} after {spec}")
            for row, label, example in zip(batch.x, batch.y, batch.ids, strict=True):
                self.hash.update(int(example).to_bytes(8, "little", signed=True))
                self.hash.update(int(label).to_bytes(8, "little", signed=True))
                self.hash.update(np.ascontiguousarray(row).tobytes())
            self.n += len(batch)
            yield batch
        if spec is None:
            raise DataError("nothing to export: the set is empty")


def _png(image: Array) -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(held, "PNG", optimize=False)
    return held.getvalue()


def _images_only(batch: Examples, form: str) -> None:
    if batch.spec.kind != "image" or batch.x.dtype != np.uint8 or batch.x.shape[3] not in (1, 3, 4):
        got = f"{batch.spec.kind} {batch.x.dtype} {list(batch.x.shape[1:])}"
        raise DataError(f"format {form!r} holds uint8 images of 1, 3 or 4 channels; got {got}: use format 'npy'")


def _features(spec: Spec) -> Any:
    import datasets

    names = list(spec.class_names)
    label = datasets.ClassLabel(names=names) if len(names) == spec.classes else datasets.Value("int64")
    return datasets.Features({"image": datasets.Image(), "label": label, "id": datasets.Value("int64")})


def _rows(batch: Examples, schema: Any) -> Any:
    import pyarrow as pa

    pictures = [{"bytes": _png(x), "path": None} for x in batch.x]
    columns = {"image": pictures, "label": batch.y.tolist(), "id": batch.ids.tolist()}
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}, schema)


def _write_rows(batches: Iterable[Examples], form: str, opened: Callable[[Any], Any]) -> Spec:
    """Rows into the Arrow writer that `opened` gives for a schema."""
    writer, schema, spec = None, None, None
    try:
        for batch in batches:
            _images_only(batch, form)
            if writer is None:
                spec, schema = batch.spec, _features(batch.spec).arrow_schema
                writer = opened(schema)
            writer.write_table(_rows(batch, schema))
    finally:
        if writer is not None:
            writer.close()
    assert spec is not None
    return spec


def _write_parquet(folder: Path, batches: Iterable[Examples]) -> Spec:
    import pyarrow.parquet as pq

    return _write_rows(batches, "parquet", lambda schema: pq.ParquetWriter(folder / "data.parquet", schema))


def _write_hf(folder: Path, batches: Iterable[Examples]) -> Spec:
    import datasets
    import pyarrow as pa

    file = "data-00000-of-00001.arrow"
    spec = _write_rows(batches, "hf", lambda schema: pa.ipc.new_stream(str(folder / file), schema))
    datasets.DatasetInfo(features=_features(spec)).write_to_directory(str(folder))
    state: dict[str, Any] = {
        "_data_files": [{"filename": file}],
        "_fingerprint": hashlib.sha256((folder / file).read_bytes()[:1_000_000]).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    (folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")
    return spec


def _write_npy(folder: Path, batches: Iterable[Examples]) -> Spec:
    spec = None
    with (
        (folder / "images.npy").open("wb") as images,
        (folder / "labels.npy").open("wb") as labels,
        (folder / "ids.npy").open("wb") as ids,
    ):
        files, n = (images, labels, ids), 0
        for file in files:
            file.write(bytes(HEADER))
        for batch in batches:
            spec, n = batch.spec, n + len(batch)
            arrays = (batch.x, batch.y.astype("<i8"), batch.ids.astype("<i8"))
            for file, array in zip(files, arrays, strict=True):
                file.write(np.ascontiguousarray(array).tobytes())
        assert spec is not None
        for file, array in zip(files, arrays, strict=True):
            file.seek(0)
            file.write(npy_header(array.dtype, (n, *array.shape[1:])))
    return spec


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """A version 1.0 .npy header of exactly `HEADER` bytes.

    >>> len(npy_header(np.dtype("uint8"), (10_000, 32, 32, 3)))
    128
    """
    text = repr({"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape})
    body = text.ljust(HEADER - 11).encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def _write_images(folder: Path, batches: Iterable[Examples]) -> Spec:
    spec = None
    with (folder / "images.csv").open("w", newline="", encoding="utf-8") as listing:
        table = csv.writer(listing)
        table.writerow(["file_name", "label", "id", "sha256"])
        for batch in batches:
            _images_only(batch, "images")
            spec = batch.spec
            for x, y, example in zip(batch.x, batch.y.tolist(), batch.ids.tolist(), strict=True):
                name = spec.class_names[y] if 0 <= y < len(spec.class_names) else str(y)
                file = folder / "".join(c if c.isalnum() or c in "-_." else "_" for c in name) / f"{example}.png"
                file.parent.mkdir(exist_ok=True)
                coded = _png(x)
                file.write_bytes(coded)
                listed = (file.relative_to(folder).as_posix(), y, example, hashlib.sha256(coded).hexdigest())
                table.writerow(listed)
    assert spec is not None
    return spec


_WRITERS: Mapping[str, Callable[[Path, Iterable[Examples]], Spec]] = {
    "hf": _write_hf,
    "parquet": _write_parquet,
    "npy": _write_npy,
    "images": _write_images,
}

_ENCODING = {".parquet": "application/x-parquet", ".csv": "text/csv", ".json": "application/json"}


def croissant(folder: Path, spec: Spec, content: _Content, form: str, about: About) -> dict[str, Any]:
    """The Croissant 1.0 description of the files in `folder`."""
    made = json.dumps(dict(about.made_by), sort_keys=True)
    held = f"{content.n} examples of {spec.kind} {list(spec.shape)} in {spec.classes} classes"
    described = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": about.name,
        "description": f"{held}. Made from {about.source} by {made}. Content SHA-256: {content.hash.hexdigest()}.",
        "license": about.license,
        "url": about.url or f"urn:sha256:{content.hash.hexdigest()}",
        "version": "1.0.0",
        "isBasedOn": about.source,
        "citeAs": about.cite or about.source,
        "testbed:madeBy": made,
        "testbed:contentSha256": content.hash.hexdigest(),
        "testbed:examples": content.n,
        "distribution": [_file_object(folder, f) for f in sorted(folder.iterdir()) if f.is_file()],
    }
    record = {
        "parquet": ("data.parquet", ("label", "id")),
        "images": ("images.csv", ("file_name", "label", "id", "sha256")),
    }
    if form in record:
        described["recordSet"] = [_record_set(*record[form])]
    return described


def _file_object(folder: Path, file: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {
        "@type": "cr:FileObject",
        "@id": file.name,
        "name": file.name,
        "contentUrl": file.relative_to(folder).as_posix(),
        "contentSize": f"{file.stat().st_size} B",
        "encodingFormat": _ENCODING.get(file.suffix, "application/octet-stream"),
        "sha256": digest.hexdigest(),
    }


def _record_set(file: str, columns: tuple[str, ...]) -> dict[str, Any]:
    texts = ("file_name", "sha256")
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"examples/{column}",
            "name": f"examples/{column}",
            "dataType": "sc:Text" if column in texts else "sc:Integer",
            "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
        }
        for column in columns
    ]
    return {"@type": "cr:RecordSet", "@id": "examples", "name": "examples", "field": fields}


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "testbed": "urn:robustness-testbed:",
    "transform": "cr:transform",
}
