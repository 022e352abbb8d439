"""`testbed data`: get files that are known by name, and look for images that occur twice."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testbed.errors import UsageError

if TYPE_CHECKING:
    from testbed.data.audit import Pairs
    from testbed.types import Examples

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Download and audit data sets.")


@app.command()
def get(
    name: Annotated[str | None, typer.Argument(help="A name; without one, the names are listed.")] = None,
    to: Annotated[Path | None, typer.Option(help="Data folder; default TESTBED_DATA.")] = None,
    mirror: Annotated[list[str] | None, typer.Option(help="Base URL asked first (repeatable).")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no server; only check what is there.")] = False,
) -> None:
    """Download a data set: checksums known beforehand, resumed where it broke, several mirrors.

    Exit code 3 where a file cannot be had, with what each mirror said.
    """
    from testbed.data import fetch

    if name is None:
        for known, files in fetch.catalog().items():
            size = sum(file.size for file in files) / 1e6
            typer.echo(f"{known:<16} {len(files)} files  {size:.1f} MB  below {Path(files[0].path).parent}")
        return
    for path in fetch.get(name, to, mirrors=mirror or (), offline=offline or None, progress=_Progress()):
        typer.echo(f"{path}  whole, SHA-256 as expected")


class _Progress:
    """A line on stderr at each tenth of a file, so that logs stay short."""

    def __init__(self) -> None:
        self.said: dict[str, int] = {}

    def __call__(self, path: str, have: int, size: int) -> None:
        tenth = 10 * have // max(size, 1)
        if tenth > self.said.get(path, 0):
            self.said[path] = tenth
            typer.echo(f"{path}: {have / 1e6:.1f} of {size / 1e6:.1f} MB", err=True)


@app.command()
def audit(
    name: Annotated[str, typer.Argument(help="An image set of `testbed ls datasets`.")],
    part: Annotated[str | None, typer.Option(help="Part to audit; default test, or the only one.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Part to look in; default train where it is another one, else the same.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(min=-1, max=1, help="Least correlation of a pair.")] = None,
    param: Annotated[list[str] | None, typer.Option("-p", "--param", help="Of the data set: path=my.npz")] = None,
    out: Annotated[Path | None, typer.Option(help="All pairs as CSV, best first.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="The weakest 50 pairs as one PNG, to judge the threshold.")] = None,
    most: Annotated[int, typer.Option(min=0, help="Pairs to print.")] = 10,
) -> None:
    """Near-duplicates: images of one shot that occur twice, within a part or between two (test and train)."""
    from testbed.cli.export import data_set
    from testbed.data.audit import THRESHOLD, near_duplicates

    plugin, params = data_set(name, param or [])
    dataset = plugin.build(**params)
    left, right = _parts(dict(dataset.sizes()), part, against, plugin.name)
    x = _images(dataset, left, plugin.name)
    other = x if right == left else _images(dataset, right, plugin.name)
    level = THRESHOLD if threshold is None else threshold
    pairs = near_duplicates(x.x, None if right == left else other.x, threshold=level)
    _say(pairs, x, other, (left, right), level, most)
    if out is not None:
        _write(out, pairs, x, other)
    if sheet is not None and len(pairs):
        _sheet(sheet, pairs, x, other)


def _parts(sizes: dict[str, int], part: str | None, against: str | None, name: str) -> tuple[str, str]:
    from testbed.data.base import check_part
    from testbed.data.splits import whole

    left = part or whole(sizes).part
    right = against or ("train" if "train" in sizes else left)
    for one in (left, right):
        check_part(one, sizes, name)
    return left, right


def _images(dataset: Any, part: str, name: str) -> Examples:
    if dataset.spec().kind != "image":
        raise UsageError(
            f"data set {name!r} holds {dataset.spec().kind} data; near-duplicates are looked for in images"
        )
    examples: Examples = dataset.load(part)
    return examples


def _say(pairs: Pairs, x: Examples, other: Examples, parts: tuple[str, str], level: float, most: int) -> None:
    from testbed.papers.compute import share

    same = parts[0] == parts[1]
    seen = {int(i) for i in pairs.left} | ({int(i) for i in pairs.right} if same else set())
    value, low, high, n = share(len(seen), len(x))
    labels = sum(int(x.y[i]) != int(other.y[j]) for i, j in zip(pairs.left, pairs.right, strict=True))
    where = f"within {parts[0]!r}" if same else f"in {parts[1]!r}"
    typer.echo(
        f"{len(seen)} of {n} images of {parts[0]!r} have a near-duplicate {where}: {100 * value:.2f} % "
        f"[{100 * low:.2f}, {100 * high:.2f}] (95 %, Clopper-Pearson), correlation >= {level:g}; "
        f"{labels} pairs differ in their label"
    )
    for i, j, score in list(zip(pairs.left, pairs.right, pairs.score, strict=True))[:most]:
        typer.echo(f"  id {x.ids[i]}  id {other.ids[j]}  {score:.3f}  labels {x.y[i]} {other.y[j]}")


def _write(path: Path, pairs: Pairs, x: Examples, other: Examples) -> None:
    import csv

    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["id", "other_id", "correlation", "label", "other_label"])
            for i, j, score in zip(pairs.left, pairs.right, pairs.score, strict=True):
                table.writerow([int(x.ids[i]), int(other.ids[j]), f"{score:.4f}", int(x.y[i]), int(other.y[j])])
    except OSError as error:
        raise UsageError(f"--out {path}: cannot be written: {error.strerror}") from None


def _sheet(path: Path, pairs: Pairs, x: Examples, other: Examples) -> None:
    import numpy as np
    from PIL import Image

    from testbed.data.adapt import resize, to_channels

    shown = slice(max(0, len(pairs) - 50), None)
    sides = (x.x[pairs.left[shown]], other.x[pairs.right[shown]])
    tiles = [np.stack([resize(image, 96, 96) for image in to_channels(side, 3)]) for side in sides]
    both = np.concatenate(tiles, axis=2)
    blank = np.zeros((-len(both) % 5, *both.shape[1:]), np.uint8)
    rows = np.concatenate([both, blank]).reshape(-1, 5, *both.shape[1:])
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in rows], axis=0)
    try:
        Image.fromarray(picture).save(path, format="PNG")
    except OSError as error:
        raise UsageError(f"--sheet {path}: cannot be written: {error.strerror}") from None
