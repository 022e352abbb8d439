"""What all commands print with: one rich console, wide enough that piped tables are not folded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from testbed.errors import harmless

#: Width of a table that goes to a file or a pipe, where there is no window to fit.
PIPED_WIDTH = 160


class _Harmless(Console):
    """A console whose colours are its own: what is printed holds nothing that a terminal obeys."""

    def render(self, *args: Any, **kwargs: Any) -> Iterable[Segment]:
        for text, style, control in super().render(*args, **kwargs):
            yield Segment(text if control else harmless(text), style, control)


def console(width: int | None = None) -> Console:
    """A console on stdout: as wide as the window, as COLUMNS says, or `PIPED_WIDTH` where there is neither."""
    if width is None and not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        width = PIPED_WIDTH
    return _Harmless(width=width, highlight=False, soft_wrap=False)
