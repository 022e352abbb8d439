"""Numbers that an audit doubts: the one place that says which they are and how every view marks them.

An audit that failed says that an attack may have found less than there is, so that a robust number is an upper bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Stands after a number whose attack failed an audit.
DOUBT: Final = "†"

#: What a view that holds a marked number says below.
NOTE: Final = f"{DOUBT} an audit of this attack failed: the number may be too good; `testbed query` has the flags"


def doubted(row: Mapping[str, Any]) -> bool:
    """Whether a row's number is doubted: it has a value, and an audit of its attack failed.

    >>> doubted({"value": 0.4, "flags": "audit:fail(transfer)"}), doubted({"value": 0.4, "flags": "audit:pass"})
    (True, False)
    """
    return row.get("value") is not None and row.get("metric") != "audit" and "audit:fail" in (row.get("flags") or "")


def marked(text: str, doubt: bool) -> str:
    """The text of a number, with its mark where it is doubted.

    >>> marked("0.400", True), marked("0.400", False)
    ('0.400 †', '0.400')
    """
    return f"{text} {DOUBT}" if doubt else text
