"""`testbed ls`: what is installed, with parameters, facts and papers, read from entry points."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import typer

from testbed.errors import MissingExtra, UsageError, nearest
from testbed.plugins import FACTS, KINDS, REQUIRED, Plugin, installed, read
from testbed.types import Paper

PAPERS: Final = "papers"
NAMES: Final = (*(f"{kind}s" for kind in KINDS), PAPERS)


def ls(
    kind: Annotated[str | None, typer.Argument(help=", ".join(NAMES), metavar="[KIND]")] = None,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="The papers of these methods, as BibTeX.")] = False,
    verified: Annotated[bool, typer.Option("--verified", help="What each method is checked against.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
) -> None:
    """Attacks, shifts, calibrators, detectors, datasets, models, metrics and papers that are installed."""
    if bibtex and as_json:
        raise UsageError("--bibtex and --json together: choose one")
    if verified:
        from testbed.cli.verified import show

        show("" if kind is None else named(kind)[:-1], as_json)
        return
    if kind is None and not (bibtex or as_json):
        _counts()
        return
    wanted = NAMES if kind is None else (named(kind),)
    if PAPERS in wanted and kind is not None:
        _papers(as_json)
        return
    plugins = [plugin for name in wanted if name != PAPERS for plugin in everything(name[:-1])]
    if bibtex:
        print("\n\n".join(citations(plugins)))
    elif as_json:
        print(json.dumps([described(plugin) for plugin in plugins], indent=1, default=str))
    else:
        _table(plugins)


def named(kind: str) -> str:
    """The plural of a kind, which may be given in the singular; UsageError with the nearest for any other word.

    >>> named("attack"), named("datasets")
    ('attacks', 'datasets')
    """
    word = kind.lower().replace("-", "_")
    for name in NAMES:
        if word in (name, name[:-1]):
            return name
    raise UsageError(f"testbed ls {kind}: no such kind; {nearest(kind, NAMES)}")


def everything(kind: str) -> list[Plugin | str]:
    """Every installed plug-in of a kind; where a package it needs is missing, the sentence that says so."""
    found: list[Plugin | str] = []
    for name in installed(kind):
        try:
            found.append(read(kind, name))
        except MissingExtra as error:
            found.append(str(error))
    return found


def described(plugin: Plugin | str) -> dict[str, Any]:
    """A plug-in as plain values."""
    if isinstance(plugin, str):
        return {"unavailable": plugin}
    defaults = {p.name: None if p.default is REQUIRED else p.default for p in plugin.parameters}
    required = [p.name for p in plugin.parameters if p.default is REQUIRED]
    paper = plugin.facts.get("reference")
    facts = {name: value for name, value in plugin.facts.items() if name != "reference"}
    reference = None if paper is None else {**vars(paper)}
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "parameters": defaults,
        "required": required,
        "facts": facts,
        "reference": reference,
    }


def citations(plugins: Iterable[Plugin | str]) -> list[str]:
    """BibTeX of every paper once, keys made unique with a letter where two papers share author and year."""
    papers = {
        p.facts["reference"] for p in plugins if isinstance(p, Plugin) and isinstance(p.facts.get("reference"), Paper)
    }
    seen: dict[str, int] = {}
    entries = []
    for paper in sorted(papers, key=lambda p: (p.year, p.authors, p.title)):
        entry = paper.bibtex()
        key = entry[entry.index("{") + 1 : entry.index(",")]
        seen[key] = seen.get(key, 0) + 1
        letter = "" if seen[key] == 1 else chr(ord("a") + seen[key] - 1)
        entries.append(entry.replace("{" + key + ",", "{" + key + letter + ",", 1))
    return entries


def surname(paper: Paper) -> str:
    """The first author's, whether names are written first or last name first.

    >>> surname(Paper("", "Dan Hendrycks, Kevin Gimpel", 2017)), surname(Paper("", "Ovadia, Y. and others", 2019))
    ('Hendrycks', 'Ovadia')
    """
    return paper.authors.split(" and ")[0].split(",")[0].split()[-1]


def spelled(plugin: Plugin) -> str:
    """The parameters as one would type them; one without a default stands alone."""
    return ", ".join(p.name if p.default is REQUIRED else f"{p.name}={p.default!r}" for p in plugin.parameters)


def stated(kind: str, facts: Mapping[str, Any]) -> str:
    """The facts that differ from what holds where a plug-in states nothing."""
    usual = FACTS[kind]
    hidden = ("reference", "version", "draws", "paths")
    shown = {name: v for name, v in facts.items() if name not in hidden and v != usual.get(name)}
    return ", ".join(name if v is True else f"{name}: {_words(v)}" for name, v in shown.items())


def _words(value: Any) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, (tuple, list)) else str(value)


def _counts() -> None:
    from testbed.papers.book import keys

    for name in NAMES:
        count = len(keys()) if name == PAPERS else len(installed(name[:-1]))
        print(f"{name:<12} {count:>4}")
    print("testbed ls KIND lists one kind; --bibtex gives the papers")


def _papers(as_json: bool) -> None:
    from dataclasses import asdict

    from testbed.papers.book import keys, open_table

    tables = [open_table(key) for key in keys()]
    if as_json:
        plain = [
            {
                "name": t.key,
                "title": t.title,
                "figures": len(t.figures),
                "needs": asdict(t.needs),
                "absent": t.needs.absent(),
            }
            for t in tables
        ]
        print(json.dumps(plain, indent=1))
    elif not tables:
        print("no paper table is installed")
    else:
        _paper_table(tables)


def _paper_table(tables: list[Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console
    from testbed.papers.needs import minutes

    columns = ("name", "figures", "table", "data and weights", "CPU min", "quick", "accelerator")
    shown = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for table in tables:
        needs, absent = table.needs, table.needs.absent()
        files = [name + (" (absent)" if name in absent else "") for name in (*needs.data, *needs.weights)]
        extras = [f"extra {name}" for name in needs.extras]
        times = (minutes(needs.cpu_minutes), minutes(needs.quick_cpu_minutes))
        what = "\n".join([*files, *extras]) or "none"
        shown.add_row(*map(Text, (table.key, str(len(table.figures)), table.title, what, *times, needs.accelerator)))
    console().print(shown)
    print("minutes of CPU on an empty store, as measured with one thread; --json says where")


def _table(plugins: list[Plugin | str]) -> None:
    from rich.table import Table
    from rich.text import Text

    from testbed.cli.console import console

    table = Table("name", "parameters", "facts", "paper", box=None, pad_edge=False, header_style="bold")
    for plugin in plugins:
        if isinstance(plugin, Plugin):
            paper = plugin.facts.get("reference")
            cite = f"{surname(paper)} {paper.year}" if isinstance(paper, Paper) else ""
            cells = (plugin.name, spelled(plugin), stated(plugin.kind, plugin.facts), cite)
            table.add_row(*map(Text, cells))
    console().print(table)
    for plugin in plugins:
        if isinstance(plugin, str):
            print(f"not available: {plugin}")
