"""Severity tables: the published parameters by set, and what lies between the published levels and sizes.

`tables/<set>.json` holds, for each corruption, one list a parameter: its values at severities 1 to 5, or at the
severities listed under "at". The sets are facts from the public scripts: `imagenet224`, `cifar32`, `tiny64` and
`inception299` from Hendrycks and Dietterich (2019, arXiv 1903.12261), `mnist28` from Mu and Gilmer (2019,
arXiv 1906.02337), whose one default level stands at severity 3 (its other corruptions have their ImageNet values).
They are not functions of the size: the same corruption is milder, relative to the size, in one set than in another.

A severity between two levels interpolates every parameter linearly. Below the first level a parameter runs to the
value at which it changes nothing; where there is none (JPEG quality, say) the image of the first level is mixed with
the clean one, `(1 - s) x + s T_1(x)`. Above a last level below 5 (MNIST-C) the line is carried on. `auto` takes the
set of the image's size (the geometric mean of height and width; mnist28 for a single channel of 28 px) and between
two sizes interpolates every parameter linearly in the logarithm of the size; outside 32..299 the nearest set holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal, TypeAlias

from testbed.errors import UsageError

SetName: TypeAlias = Literal["auto", "imagenet224", "cifar32", "tiny64", "inception299", "mnist28"]
Table: TypeAlias = Mapping[str, tuple[float, ...]]

#: The sets that `auto` interpolates between, by image size in pixels.
SIZES: Final = {32: "cifar32", 64: "tiny64", 224: "imagenet224", 299: "inception299"}


@dataclass(frozen=True)
class Setting:
    """Parameter values in force, where they are from, and how much of the shifted image is mixed in (1 = all)."""

    values: Mapping[str, float]
    taken: str
    mix: float = 1.0

    def __getitem__(self, name: str) -> float:
        return self.values[name]

    def whole(self, name: str) -> int:
        """A parameter that counts something, rounded to the nearest integer (halves up)."""
        return math.floor(self.values[name] + 0.5)


@cache
def load(which: str) -> Mapping[str, Table]:
    """All tables of a set.

    >>> load("cifar32")["gaussian_noise"]["sd"]
    (0.04, 0.06, 0.08, 0.09, 0.1)
    """
    text = (Path(__file__).parent / "tables" / f"{which}.json").read_text(encoding="utf-8")
    return {
        name: {key: tuple(map(float, values)) for key, values in table.items()}
        for name, table in json.loads(text).items()
    }


def sets_with(name: str) -> tuple[str, ...]:
    """The sets that have a table for this shift."""
    return tuple(which for which in (*SIZES.values(), "mnist28") if name in load(which))


def setting(
    name: str,
    params: str,
    shape: tuple[int, ...],
    severity: float,
    zero: Mapping[str, float],
    reciprocal: tuple[str, ...] = (),
) -> Setting:
    """The parameters of shift `name` at this severity for images of `shape` `(h, w, c)`.

    zero        parameter values that change nothing (severity 0); {} where there are none
    reciprocal  parameters that interpolate as 1/value (photon counts: 1/inf = 0 is no noise)

    >>> setting("fog", "cifar32", (32, 32, 3), 1.5, {"amount": 0.0}).values["amount"]
    0.35
    >>> setting("fog", "auto", (45, 45, 3), 1, {"amount": 0.0}).taken
    'between cifar32 and tiny64 at 45 px'
    """
    if params != "auto":
        return _in_set(name, params, severity, zero, reciprocal)
    available = sets_with(name)
    if available == ("mnist28",) or (shape == (28, 28, 1) and "mnist28" in available):
        return _in_set(name, "mnist28", severity, zero, reciprocal)
    size, sizes = math.sqrt(shape[0] * shape[1]), [s for s, which in SIZES.items() if which in available]
    above = min((s for s in sizes if s >= size), default=max(sizes))
    below = max((s for s in sizes if s <= size), default=min(sizes))
    low, high = (_in_set(name, SIZES[s], severity, zero, reciprocal) for s in (below, above))
    if below >= above:
        return low
    share = math.log(size / below) / math.log(above / below)
    values = {key: _line(low[key], high[key], share, key in reciprocal) for key in low.values}
    return Setting(values, f"between {low.taken} and {high.taken} at {size:.0f} px", low.mix)


def _in_set(name: str, which: str, severity: float, zero: Mapping[str, float], reciprocal: tuple[str, ...]) -> Setting:
    if name not in load(which):
        raise UsageError(
            f"shift {name!r} has no published table {which!r}; it has "
            + " and ".join(sets_with(name))
            + ", or leave params: auto"
        )
    table = load(which)[name]
    levels = table.get("at", (1.0, 2.0, 3.0, 4.0, 5.0))
    columns = {key: values for key, values in table.items() if key != "at"}
    if severity <= levels[0] and not zero:
        return Setting({key: values[0] for key, values in columns.items()}, which, severity / levels[0])
    found = {}
    for key, values in columns.items():
        known, at = ((zero[key], *values), (0.0, *levels)) if key in zero else (values, levels)
        found[key] = _through(at, known, severity, key in reciprocal)
    return Setting(found, which)


def _through(at: tuple[float, ...], known: tuple[float, ...], severity: float, reciprocal: bool) -> float:
    """The value at `severity` of the line through the known points; constant below, carried on above."""
    if severity in at:
        return known[at.index(severity)]
    if severity < at[0] or len(at) == 1:
        return known[0]
    i = min(max(k for k in range(len(at)) if at[k] < severity), len(at) - 2)
    return _line(known[i], known[i + 1], (severity - at[i]) / (at[i + 1] - at[i]), reciprocal)


def _line(low: float, high: float, share: float, reciprocal: bool) -> float:
    if reciprocal:
        return 1 / ((1 - share) / low + share / high)
    return low + (high - low) * share
