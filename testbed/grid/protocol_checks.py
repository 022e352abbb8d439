"""A grid that names a published protocol is held to it: OOD sets stand in the protocol's groups.

Any other name is the grid's own; it goes into the rows as it is, and rows of different names never share a table.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.detection.protocols import protocols
from testbed.errors import nearest
from testbed.grid.reader import Where
from testbed.grid.resolved import Resolved


def wrong_groups(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """An OOD set of a published protocol that the grid puts into another group than the protocol does."""
    name = resolved.grid.protocol
    if name not in protocols():
        return
    known = protocols()[name]
    for i, entry in enumerate(resolved.grid.ood):
        for use in [entry.name] if entry.name else entry.use:
            group = known.group_of(use.replace("_", "-"))
            if group and entry.group != group:
                given = f"{entry.group!r}" if entry.group else "no group"
                yield (
                    ("ood", i),
                    f"{use!r} is a {group} set in protocol {name!r}, and has {given} here; give `group: {group}`",
                )


def protocol_notes(resolved: Resolved) -> Iterator[str]:
    """What a reader should know of a grid's protocol: a name that is nearly a published one, sets beyond its lists."""
    name = resolved.grid.protocol
    if not name:
        return
    if name not in protocols():
        yield f"protocol {name!r} is the grid's own name, no published protocol; {nearest(name, protocols())}"
        return
    beyond = [o.name for o in resolved.ood if not protocols()[name].group_of(o.name.replace("_", "-"))]
    if beyond and protocols()[name].near:
        yield f"protocol {name!r} has no OOD sets {', '.join(dict.fromkeys(beyond))}: their rows are an addition to it"
