"""What a table needs, as data: `needs.yaml` beside its figures.

    data: [mnist/, cifar10/cifar10_test_jpeg.npz]     files or folders below TESTBED_DATA
    weights: [weights/resnet20_cifar10.safetensors]
    cpu_minutes: 12.5           of a full run on an empty store, as measured (user time, one thread)
    quick_cpu_minutes: 0.8      of the quick run
    measured_on: 2 shared x86-64 cores, torch 2.13.0
    accelerator: none           or what a full run should have
    extras: [robustbench]       optional dependencies
Everything may be left out; minutes that nobody measured stay empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from testbed.errors import UsageError, nearest


@dataclass(frozen=True)
class Needs:
    """Data, weights, time, accelerator and extras of a table; minutes are None where they were not measured."""

    data: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    cpu_minutes: float | None = None
    quick_cpu_minutes: float | None = None
    measured_on: str = ""
    accelerator: str = "none"
    extras: tuple[str, ...] = ()

    def absent(self) -> tuple[str, ...]:
        """The files and folders of data and weights that are not below TESTBED_DATA.

        >>> Needs(data=("no-such-folder/",)).absent()
        ('no-such-folder/',)
        """
        from testbed.data.base import data_root

        root = data_root()
        return tuple(name for name in (*self.data, *self.weights) if root is None or not (root / name).exists())


def read_needs(path: Path) -> Needs:
    """The needs of a table; none where there is no file. UsageError for a key or value that is not known."""
    if not path.is_file():
        return Needs()
    from testbed.grid.reader import read_file

    given = read_file(path).value
    known = {field.name for field in fields(Needs)}
    if not isinstance(given, Mapping):
        raise UsageError(f"{path}: expected keys and values, got {type(given).__name__}")
    for name in given:
        if name not in known:
            raise UsageError(f"{path}: unknown key {name!r}; {nearest(str(name), sorted(known))}")
    return Needs(**{name: _value(path, name, value) for name, value in given.items()})


def _value(path: Path, name: str, value: Any) -> Any:
    if name in ("data", "weights", "extras"):
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise UsageError(f"{path}: {name}: expected a list of names, got {value!r}")
        return tuple(value)
    if name.endswith("minutes"):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
            raise UsageError(f"{path}: {name}: expected a number of minutes, got {value!r}")
        return float(value)
    return str(value)


def minutes(value: float | None) -> str:
    """Minutes in few digits.

    >>> minutes(12.34), minutes(0.51), minutes(None)
    ('12', '0.5', 'unmeasured')
    """
    return "unmeasured" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"
