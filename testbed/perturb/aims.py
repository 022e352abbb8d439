"""Targets that are given: one class for all examples, or one for each.

An attack's parameter `target` may be a class, one class an example (in Python a list or an array as long as the set),
or `groups` (in a grid: each example's group, whose name is a class number). A plug-in class that says `row_target =
True` is asked with an int64 tensor `[m]` in its place, the targets of the rows it is given. An example whose target is
its own label is left as it is: there is nothing to attack.
"""

from __future__ import annotations

from dataclasses import is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from testbed.errors import DataError
from testbed.types import Array, Examples

if TYPE_CHECKING:
    from testbed.perturb.attack import Attack

#: The target that stands for the set's groups.
GROUPS = "groups"


def given(attack: Attack, n: int, classes: int, device: Any) -> Tensor | None:
    """The classes that the attack's target names, int64 `[n]`; None where it names none.

    Raises DataError for as many targets as there are not examples, and for a class that the model does not have.
    """
    target = attack.params.get("target")
    if not getattr(attack.plugin.loader(), "row_target", False) or target is None or isinstance(target, str):
        if target == GROUPS:
            raise DataError("attack: target 'groups' is for grids; in Python give one class an example")
        return None
    aim = torch.as_tensor(target, device=device).long().reshape(-1)
    if len(aim) == 1 and not isinstance(target, (tuple, list)):
        aim = aim.repeat(n)
    if len(aim) != n:
        raise DataError(f"attack: {len(aim)} targets for {n} examples; give one class for all, or one an example")
    if n and (int(aim.min()) < 0 or int(aim.max()) >= classes):
        worst = int(aim.max()) if int(aim.max()) >= classes else int(aim.min())
        raise DataError(f"attack: target {worst}, but the model has {classes} classes (0 to {classes - 1})")
    return aim


def sent(target: Any, aim: Tensor | None) -> Any:
    """The plug-in, built as `target`, with these classes for the rows it is asked for."""
    if aim is None:
        return target
    if isinstance(target, partial):
        return partial(target.func, *target.args, **{**target.keywords, "target": aim})
    if not hasattr(target, "target") and hasattr(target, "inner"):
        return replace(target, inner=sent(target.inner, aim))
    return replace(target, target=aim) if is_dataclass(target) and not isinstance(target, type) else target


def some(target: Any, rows: Array) -> Any:
    """The plug-in asked for some of the rows that it was asked for."""
    aim = target.keywords.get("target") if isinstance(target, partial) else getattr(target, "target", None)
    return sent(target, aim[torch.from_numpy(rows).to(aim.device)]) if isinstance(aim, Tensor) else target


def of_groups(attack: Attack, examples: Examples) -> Attack:
    """The attack, with a target `groups` spelled out for these examples.

    Raises DataError where the set has no groups, or one whose name is not a class number.
    """
    if attack.params.get("target") != GROUPS:
        return attack
    if examples.groups is None:
        raise DataError("attack: target 'groups', but the set has no groups; give the data a `groups:` column")
    names = [examples.group_names[i] if examples.group_names else str(i) for i in np.unique(examples.groups)]
    if wrong := [name for name in names if not str(name).isdigit()]:
        raise DataError(f"attack: target 'groups' takes groups that are called by class numbers, got {wrong[0]!r}")
    numbers = [int(examples.group_names[i]) if examples.group_names else int(i) for i in examples.groups]
    return replace(attack, params={**attack.params, "target": tuple(numbers)})
