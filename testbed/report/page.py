"""One HTML page that opens offline: data, charts and scripts inside it, nothing fetched.

The data are one JSON block, which a browser does not execute; the scripts put every text into the page as text, never
as markup. A content security policy forbids the page any connection but to its own origin (used by `--live` alone).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from testbed.errors import EnvironmentProblem
from testbed.report.load import Run
from testbed.report.payload import payload

ASSETS = "assets"

#: In the order in which they must run.
SCRIPTS = ("base.js", "table.js", "charts.js", "sections.js", "selection.js", "main.js")


def write_page(run: Run, path: Path | None = None) -> Path:
    """Write the page of a run (default: report.html in its folder)."""
    return put(path or run.folder / "report.html", page(run))


def put(path: Path, text: str) -> Path:
    """Write a page in one step, so that no reader sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise EnvironmentProblem(f"cannot write {path}: {error.strerror}; give another place with --out") from None
    return path


def page(run: Run, live: bool = False) -> str:
    """The page as text."""
    return filled(run.name, payload(run, live), SCRIPTS)


def filled(name: str, data: Mapping[str, Any], scripts: Sequence[str], styles: Sequence[str] = ("style.css",)) -> str:
    """The template with these data, scripts and styles in it."""
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(asset("page.html.j2"))
    return template.render(
        name=name,
        data=as_json(data),
        style="\n".join(map(asset, styles)),
        bundle=bundle(),
        scripts=[asset(script) for script in scripts],
    )


def asset(name: str) -> str:
    """The text of a file in assets/."""
    return files("testbed.report").joinpath(ASSETS, name).read_text(encoding="utf-8")


def as_json(value: Any) -> str:
    """JSON that can stand inside a script element: no `<` is left that could end it.

    >>> as_json({"model": "</script>"})
    '{"model":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


@lru_cache(maxsize=1)
def bundle() -> str:
    """Vega, Vega-Lite and vega-embed as one script.

    It takes about two seconds to bundle, so it is kept in the user's cache folder under its version.
    """
    from importlib.metadata import version

    kept = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    if kept.is_file():
        return kept.read_text(encoding="utf-8")
    import vl_convert

    text = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs the two seconds again, nothing else
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(kept)
    return text


def cache_folder() -> Path:
    """Where files that can be made again are kept: `testbed` in XDG_CACHE_HOME, by default in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "testbed"
