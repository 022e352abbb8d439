"""Published detection protocols as data: which sets, which splits, which conventions.

A number belongs to the protocol it was made under. The same detector has another FPR95 where ID is the positive class,
and another near-OOD mean where the list of sets differs, so rows of different protocols must not share a table:
`refuse_mixed` says so. The lists are in protocols.json; `source` there names where each was read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

from testbed.errors import UsageError, nearest


@dataclass(frozen=True)
class Protocol:
    """One protocol. Set names are the field's; "" or an empty tuple means that the protocol does not say.

    id              the in-distribution data set, "any" where the protocol is a view on any set
    near, far       OOD sets by group; a group's number is formed as `mean` says
    full_spectrum   shifted ID sets that count as ID, pooled with the clean ones
    tuning          data that may choose hyper-parameters; never an OOD set that is scored
    positive        class that counts as positive in FPR and AUPR: "ood", "id" or "both"
    aupr            "trapezoid" or "average_precision"
    id_right_only   whether ID examples that are misclassified are left out
    train_seeds     models trained with different seeds that a published number averages
    """

    name: str
    id: str
    source: str
    near: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    full_spectrum: tuple[str, ...] = ()
    tuning: str = ""
    id_calibration: int = 0
    id_test: int = 0
    id_right_only: bool = False
    positive: str = ""
    tpr: float = 0.95
    aupr: str = ""
    mean: str = ""
    failure: str = ""
    metrics: tuple[str, ...] = ()
    train_seeds: int = 0

    def group_of(self, ood_set: str) -> str:
        """ "near", "far", or "" for a set that is not in the protocol.

        >>> protocol("openood-v1.5/cifar10").group_of("svhn")
        'far'
        """
        return "near" if ood_set in self.near else "far" if ood_set in self.far else ""


@cache
def protocols() -> Mapping[str, Protocol]:
    """All protocols by name.

    >>> sorted(protocols())[:2]
    ['fd-shifts', 'msp-2017/mnist']
    """
    text = files("testbed.detection").joinpath("protocols.json").read_text(encoding="utf-8")
    known = {f.name for f in fields(Protocol)}
    found = {}
    for name, entry in json.loads(text)["protocols"].items():
        unknown = set(entry) - known
        if unknown:
            raise UsageError(f"protocols.json: {name} has unknown keys {sorted(unknown)}")
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        found[name] = Protocol(name=name, **plain)
    return found


def protocol(name: str) -> Protocol:
    """One protocol by name; UsageError with the nearest names where there is none.

    >>> protocol("openood-v1.5/cifar100").near
    ('cifar10', 'tiny-imagenet')
    """
    if name not in protocols():
        raise UsageError(f"unknown protocol {name!r}; {nearest(name, protocols())}")
    return protocols()[name]


def refuse_mixed(names: Iterable[str | None]) -> str | None:
    """The one protocol that all rows of a table carry (None where they carry none); UsageError where they differ.

    >>> refuse_mixed(["fd-shifts", "fd-shifts"])
    'fd-shifts'
    """
    distinct = sorted({name or "" for name in names})
    if len(distinct) > 1:
        listed = ", ".join(repr(name) if name else "none" for name in distinct)
        raise UsageError(f"rows of different protocols cannot share a table: {listed}; filter by `protocol` first")
    return (distinct[0] or None) if distinct else None
