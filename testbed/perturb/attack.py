"""An attack ready to run: a plug-in with its parameters, norm, budget and bounds, and the checks round it.

    clean forward -> examples already wrong are set aside -> the plug-in, in slices -> verify -> final forward -> ledger

Rules
- An example that is wrong before the attack keeps its clean image, costs the plug-in nothing and has first_step 0.
  With `transfer` the images are for another model: then it is attacked like all others, and a built-in plug-in works
  on it to the end (`Victim.held`); only those that minimise the distance are done with it at once, by their definition.
- Which image stands for an example is the plug-in's to find: fooled -> the first fooled iterate, not fooled -> the
  highest-loss iterate. Whether it fools is decided here, by a forward pass on the verified image.
- An attack on confidence keeps the predicted label: where it did not, the clean image stands, marked as failed.
- A plug-in for models that draw random numbers says in an attribute `fresh_draws` how many forward passes decide, on
  the clean and on the attacked images: an example is fooled where the mean of their softmaxes is wrong. One pass
  decides for all others. A model that draws from torch's generator gets the same draws each time.
- A plug-in that draws from `rng` gets draws keyed by example. One that asks for a torch `generator`, or that is
  batch-coupled, gets a seed for each slice (a function of the slice's ids), set for torch, numpy and random and put
  back afterwards.
- One that asks for `others` gets, where the target is given, the set's rightly classified images and their labels.
- A plug-in class with `streams = True` takes the whole set and leaves the cutting to the victim; others are given
  slices of `batch` examples.
- A security curve (`testbed.perturb.descent`) gives a plug-in class with `row_eps = True` its eps as a float32 tensor
  `[n]`, a budget an example, and asks one with a method `stages()` stage by stage. Users give a number, as ever.
  Where it says `early`, a number of evaluations, an example fooled by then skips the next smaller budget.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from testbed.errors import UsageError
from testbed.perturb.ledger import AttackResult
from testbed.plugins import Plugin

#: Parameters the condition supplies to a plug-in that has them, so that they stand beside `use`, not inside it.
FROM_CONDITION = ("norm", "eps", "bounds")


@dataclass(frozen=True)
class Found:
    """What an attack may return in place of a bare tensor.

    first_step   int `[n]`, the evaluation that first fooled each example (1, 2, ...), -1 where none did
    failed       bool `[n]`, examples the attack could not treat (their image is then the clean one)
    info         name -> number or array `[n]`: material for the audit; a cascade's `stage`, int `[n]`, which of its
                 parts first fooled each example, goes into the ledger
    restarts     `[r n ...]`, the image that each of r starts leaves, where every start was run on every example; the
                 audit then has the robust accuracy of each (`testbed.perturb.restarts`)
    """

    x: Any
    first_step: Any = None
    failed: Any = None
    info: Mapping[str, Any] = field(default_factory=dict)
    restarts: Any = None


@dataclass(frozen=True)
class Attack:
    """A bound attack: `attack(model, x, y, ids=ids, seed=0)` is the attacked tensor, `.run(...)` the whole result.

    params   of the plug-in, typed and complete
    norm     "linf", "l2", "l1", "l0", or None for attacks without a ball (rotations, flow fields)
    eps      the budget in the model's input scale; None only where the attack minimises the distance or has no ball
    bounds   (low, high) of valid inputs, or one such pair a feature
    batch    examples in one forward pass, and in one slice of a plug-in that does not stream
    fixed    features (positions on the first axis of an example) that must not move: categories; put back if they did
    transfer whether the images are meant for another model than the one attacked
    """

    plugin: Plugin
    params: Mapping[str, Any]
    norm: str | None
    eps: float | None
    bounds: Any = (0.0, 1.0)
    batch: int = 256
    fixed: tuple[int, ...] = ()
    transfer: bool = False

    def __call__(self, model: Any, x: Any, y: Any, *, ids: Any = None, seed: int = 0) -> Any:
        """The attacked inputs, float32 `[n ...]`."""
        return self.run(model, x, y, ids=ids, seed=seed).x

    def run(self, model: Any, x: Any, y: Any, *, ids: Any = None, seed: int = 0) -> AttackResult:
        """Attack every example and check the outcome.

        model  a torch module or callable giving logits `[n k]`; it is put in evaluation mode and back
        x      float `[n ...]` inside the bounds; y int `[n]`; ids int `[n]`, 0..n-1 where absent
        Raises DataError for inputs that cannot be attacked and PluginViolation for an attack that breaks its contract.
        """
        from testbed.perturb import execution

        return execution.execute(self, model, x, y, ids=ids, seed=seed)


def bind(
    plugin: Plugin, params: Mapping[str, Any], norm: str | None, eps: Any, bounds: Any = (0.0, 1.0)
) -> dict[str, Any]:
    """The plug-in's parameters with what the condition supplies filled in, typed and complete.

    Raises UsageError for a norm the attack does not have and a budget that is missing or negative, and
    pydantic.ValidationError for parameters that do not fit.
    """
    names = {p.name for p in plugin.parameters}
    check_budget(plugin, norm, eps)
    supplied = {"norm": norm, "eps": eps, "bounds": bounds}
    given = {k: v for k, v in supplied.items() if k in names and k not in params and v is not None}
    return plugin.validate({**given, **params})


def default_norm(plugin: Plugin) -> str | None:
    """The norm of an attack for which the condition names none: the first it has."""
    norms = plugin.facts["norms"]
    return norms[0] if norms else None


def check_budget(plugin: Plugin, norm: str | None, eps: float | None) -> None:
    """Raises UsageError where the attack cannot be run in this norm and with this budget."""
    norms = tuple(plugin.facts["norms"])
    if norm is not None and norm not in norms:
        takes = "norm " + " or ".join(map(repr, norms)) if norms else "no norm (leave norm and eps out)"
        raise UsageError(f"attack {plugin.ref!r} takes {takes}, got {norm!r}")
    if eps is not None and not 0 <= eps < float("inf"):
        raise UsageError(f"attack {plugin.ref!r}: eps must be a number >= 0, got {eps!r}")
    if eps is None and norm is not None and not plugin.facts["minimal"]:
        raise UsageError(f"attack {plugin.ref!r} needs a budget: give eps=, for example eps=8/255 for {norm} on images")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch, numpy and `random` seeded inside, and put back as they were afterwards."""
    import torch

    states = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002 - the global state is the point
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
