"""`testbed export`: a perturbed set as files that others read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from testbed.errors import UsageError, nearest

if TYPE_CHECKING:
    from testbed.perturb.shift import Shift
    from testbed.plugins import Plugin

Pairs = Annotated[list[str] | None, typer.Option("-p", "--param", help="Parameter of the data set: path=my.npz")]


def export(
    source: Annotated[str, typer.Argument(help="A grid (.yaml), or a data set of `testbed ls datasets`.")],
    form: Annotated[str, typer.Option("--format", "-f", help="hf, parquet, npy or images.")] = "hf",
    out: Annotated[Path | None, typer.Option(help="New folder; default a name made of what is exported.")] = None,
    condition: Annotated[str | None, typer.Option(help="Grid: the condition, by name or label.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Grid: which data set, where there are several.")] = None,
    model: Annotated[str | None, typer.Option(help="Grid: which model, where the condition is an attack.")] = None,
    shift: Annotated[str | None, typer.Option(help="Data set: one of `testbed ls shifts`, or FILE.py:NAME.")] = None,
    severity: Annotated[float | None, typer.Option(help="Data set: severity in [0, 5]; default 3.")] = None,
    shift_param: Annotated[
        list[str] | None, typer.Option("--shift-param", help="Parameter of the shift: params=cifar32")
    ] = None,
    param: Pairs = None,
    part: Annotated[str | None, typer.Option(help="Data set: its part; default test, or its only one.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Data set: this many examples, drawn by the seed.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every draw; default 0, or the grid's.")] = None,
    rounded: Annotated[bool, typer.Option("--round", help="Grid: round attacked images to 8 bits.")] = False,
    license: Annotated[str, typer.Option(help="Licence, for the Croissant file.")] = "",
    store: Annotated[
        str | None, typer.Option(help="Folder or fsspec URL of artifacts; default $TESTBED_STORE, else .testbed")
    ] = None,
) -> None:
    """Write a perturbed set as a Hugging Face data set, parquet, CIFAR-10-C arrays or an image folder.

    Beside it lies croissant.json: source fingerprint, shift, severity, seed, version and hashes.
    """
    from testbed.data.export import Format

    if form not in get_args(Format):
        raise UsageError(f"--format {form!r}: unknown; {nearest(form, get_args(Format))}")
    of_grid = {"--condition": condition, "--dataset": dataset, "--model": model, "--round": rounded or None}
    of_set = {"--shift": shift, "--severity": severity, "--shift-param": shift_param, "--param": param, "--part": part,
              "--limit": limit}  # fmt: skip
    if source.endswith((".yaml", ".yml")):
        _refuse(of_set, "belongs to the export of a data set; a grid says it in its conditions and data")
        wanted = {"condition": condition, "dataset": dataset, "model": model, "seed": seed}
        written = _grid(Path(source), wanted, form, out, license, store, rounded)
    else:
        _refuse(of_grid, "belongs to the export of a grid")
        if shift is None:
            _refuse({"--severity": severity, "--shift-param": shift_param}, "needs --shift")
        chosen = None if shift is None else _shift(shift, severity, shift_param or [])
        written = _dataset(source, param or [], chosen, (part, limit, seed or 0), form, out, license)
    typer.echo(f"{written}: {_count(written)} examples, described in {written / 'croissant.json'}")


def _refuse(options: dict[str, Any], why: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{', '.join(given)}: {why}")


def _grid(
    path: Path, wanted: dict[str, Any], form: str, out: Path | None, license: str, store: str | None, rounded: bool
) -> Path:
    from testbed.data.export import export as write
    from testbed.grid.planner import plan as make_plan
    from testbed.runner import export as runner
    from testbed.store import Store, default_url

    plan = make_plan(path)
    preview, row = runner.pick(plan, wanted)
    target = _free(out or Path(_file_name(f"{plan.name}-{row['dataset']}-{preview.condition}-{form}")))
    if form != "npy" and not rounded and plan.jobs[preview.perturbed[0]].kind in ("attack", "level"):
        raise UsageError(f"format {form!r} holds 8-bit images and an attacked set is float32: add --round, or -f npy")
    batches, about = runner.of_grid(plan, preview, row, Store(store or default_url()), license, rounded)
    return write(batches, target, form=form, about=about)  # type: ignore[arg-type]


def _dataset(
    ref: str,
    params: list[str],
    shift: Shift | None,
    which: tuple[str | None, int | None, int],
    form: str,
    out: Path | None,
    license: str,
) -> Path:
    from testbed.data.export import export as write
    from testbed.runner.export import Source, of_dataset

    plugin, typed = data_set(ref, params)
    suffix = (
        "" if shift is None else f"-{shift.plugin.name}" + ("" if shift.severity is None else f"-{shift.severity:g}")
    )
    name = f"{plugin.name}{suffix}"
    target = _free(out or Path(_file_name(f"{name}-{form}")))
    batches, about = of_dataset(Source(plugin, typed, *which), shift, name, license)
    return write(batches, target, form=form, about=about)  # type: ignore[arg-type]


def data_set(ref: str, params: list[str]) -> tuple[Plugin, dict[str, Any]]:
    """A data-set plug-in and its typed parameters; UsageError for a name or parameter that is not known."""
    from pydantic import ValidationError

    from testbed.plugins import read

    plugin = read("dataset", ref, Path.cwd())
    given, known = values(params), [p.name for p in plugin.parameters]
    for name in given:
        if name not in known:
            raise UsageError(f"data set {ref!r} has no parameter {name!r}; {nearest(name, known)}")
    try:
        return plugin, plugin.validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"-p {'.'.join(map(str, e['loc']))}=...: {e['msg']}" for e in error.errors())
        raise UsageError(f"data set {ref!r}: {wrong}") from None


def _shift(ref: str, severity: float | None, params: list[str]) -> Shift:
    from testbed.perturb.shift import Shift
    from testbed.plugins import read

    plugin, given = read("shift", ref, Path.cwd()), values(params)
    takes = {p.name for p in plugin.parameters}
    if severity is not None and "severity" not in takes:
        raise UsageError(f"shift {ref!r} has no severity; its parameters: {', '.join(sorted(takes))}")
    if "severity" in takes:
        given.setdefault("severity", 3.0 if severity is None else severity)
    return Shift(plugin, given)


def values(pairs: list[str]) -> dict[str, Any]:
    """`name=value` pairs, the values read as YAML.

    >>> values(["params=cifar32", "size=32"])
    {'params': 'cifar32', 'size': 32}
    """
    from testbed.grid.reader import read_text

    found = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not name or not equals:
            raise UsageError(f"{pair!r}: expected name=value, such as path=my.npz")
        found[name.replace("-", "_")] = read_text(text or "null", f"-p {pair}").value
    return found


def _free(target: Path) -> Path:
    """The folder, which must not be there yet: said before any work is done."""
    if target.exists():
        raise UsageError(f"{target} exists already; name a new folder with --out, or remove it")
    return target


def _file_name(text: str) -> str:
    """A text as one file name.

    >>> _file_name("small digits pgd linf 0.1")
    'small-digits-pgd-linf-0.1'
    """
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)


def _count(folder: Path) -> int:
    import json

    return int(json.loads((folder / "croissant.json").read_text(encoding="utf-8"))["testbed:examples"])
