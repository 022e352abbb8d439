"""Training recipes: frozen dataclasses whose fields are the hyper-parameters and whose `loss` is the method.

A new recipe is one module with one class and one line here. Importing this imports no torch.
"""

from __future__ import annotations

import importlib
from typing import Final

from testbed import plugins
from testbed.errors import UsageError, nearest

#: Recipe name -> module and class.
RECIPES: Final = {
    "standard": "testbed.models.recipes.standard:Standard",
    "label_smoothing": "testbed.models.recipes.label_smoothing:LabelSmoothing",
    "mixup": "testbed.models.recipes.mixup:Mixup",
    "augmix": "testbed.models.recipes.augmix:AugMix",
    "fgsm_rs": "testbed.models.recipes.fgsm_rs:FgsmRs",
    "pgd_at": "testbed.models.recipes.pgd_at:PgdAt",
    "trades": "testbed.models.recipes.trades:Trades",
    "free": "testbed.models.recipes.free:Free",
}


def read(name: str) -> plugins.Plugin:
    """The recipe of this name, with its parameters, as plug-ins are read; a hyphen is accepted.

    >>> read("fgsm-rs").validate({"eps": "8/255"})["eps"] == 8 / 255
    True
    """
    known = name.replace("-", "_")
    if known not in RECIPES:
        raise UsageError(f"unknown training recipe {name!r}; {nearest(name, RECIPES)}")
    module, _, attribute = RECIPES[known].partition(":")
    target = getattr(importlib.import_module(module), attribute)
    return plugins.Plugin(
        "recipe", known, known, plugins.parameters(target), {"version": target.version}, None, lambda: target
    )
