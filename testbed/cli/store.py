"""`testbed store`: verify, gc, du and merge stores of artifacts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from testbed.store import Store

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Look after a store of artifacts.")

Where = Annotated[
    str | None, typer.Option("--store", help="Folder or fsspec URL; default TESTBED_STORE, else .testbed.")
]


@app.command()
def verify(
    store: Where = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Set bad artifacts aside; the next run remakes them.")
    ] = False,
) -> None:
    """Read every stored byte against its hash. Exit code 1 if anything is wrong."""
    from testbed.store import upkeep

    opened = _open(store)
    bad = upkeep.verify(opened, repair=repair)
    for digest, reason in bad.items():
        typer.echo(f"{digest}  {reason}")
    total = len(opened.all_manifests()) + (0 if not repair else len(bad))
    done = "; set aside, run the grid again to remake them" if repair and bad else ""
    typer.echo(f"{opened.url}: {len(bad)} of {total} artifacts are not what they should be{done}")
    raise typer.Exit(1 if bad else 0)


@app.command()
def gc(
    store: Where = None,
    keep: Annotated[
        list[Path] | None, typer.Option("--keep", help="plan.json of a run to keep (repeatable); all else goes too.")
    ] = None,
    grace: Annotated[float, typer.Option("--grace", help="Leave files younger than this many minutes alone.")] = 60.0,
) -> None:
    """Remove what no artifact names: leftovers of crashes, and files set aside."""
    from testbed.errors import UsageError
    from testbed.store import upkeep

    digests: set[str] | None = None
    for path in keep or ():
        try:
            text = (path / "plan.json" if path.is_dir() else path).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(
                f"--keep {path}: cannot read it ({error.strerror}); expected a run folder or plan.json"
            ) from None
        digests = (digests or set()) | upkeep.digests_in(text)
    opened = _open(store)
    freed = upkeep.gc(opened, keep=digests, grace=60 * grace)
    typer.echo(f"{opened.url}: {spell(freed)} freed")


@app.command()
def du(store: Where = None) -> None:
    """Bytes by kind of job and role."""
    from testbed.store import upkeep

    opened = _open(store)
    usage = upkeep.du(opened)
    for kind, roles in usage.by_kind.items():
        for role, size in roles.items():
            typer.echo(f"{spell(size):>10}  {kind} {role}")
    typer.echo(f"{spell(usage.unnamed):>10}  named by no artifact (`testbed store gc` removes them)")
    typer.echo(f"{spell(usage.total):>10}  {opened.url}: {usage.artifacts} artifacts, {usage.files} files")
    if usage.dropped:
        typer.echo(f"{spell(usage.dropped):>10}  not kept (`keep` in the grid), remade when needed")


@app.command()
def merge(
    other: Annotated[str, typer.Argument(help="Folder or fsspec URL of the store to take in.")], store: Where = None
) -> None:
    """Take the artifacts of another store into this one."""
    from testbed.errors import UsageError
    from testbed.store import upkeep

    opened, source = _open(store), _existing(other)
    if opened.url == source.url:
        raise UsageError(f"{other} is the store itself; name another one")
    merged = upkeep.merge(opened, source)
    typer.echo(f"{opened.url}: took in {merged.artifacts} artifacts, {spell(merged.bytes)}")
    for digest in merged.conflicts:
        typer.echo(f"{digest}  is in both with different content; ours stays")


def spell(size: int) -> str:
    """Bytes for people.

    >>> spell(0), spell(1_500), spell(2_500_000_000)
    ('0 B', '1.5 kB', '2.5 GB')
    """
    value, units = float(size), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def _open(url: str | None) -> Store:
    from testbed.store import default_url

    return _existing(url or default_url())


def _existing(url: str) -> Store:
    from testbed.errors import UsageError
    from testbed.store import Store

    opened = Store(url)
    if not opened.exists():
        raise UsageError(f"no store at {url}: expected a folder or URL that a run has written to; name it with --store")
    return opened
