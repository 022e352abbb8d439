"""What all commands print with: one rich console, wide enough that piped tables are not folded."""

from __future__ import annotations

import os
import sys

from rich.console import Console

#: Width of a table that goes to a file or a pipe, where there is no window to fit.
PIPED_WIDTH = 160


def console(width: int | None = None) -> Console:
    """A console on stdout: as wide as the window, as COLUMNS says, or `PIPED_WIDTH` where there is neither."""
    if width is None and not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        width = PIPED_WIDTH
    return Console(width=width, highlight=False, soft_wrap=False)
