"""The functions a script calls: from a name to a thing that runs. Each is `testbed.<name>`.

They are thin: `testbed.plugins.read` finds the plug-in, its own schema types the parameters, and the handle of its kind
does the work. A name or parameter that does not fit is a `UsageError` that says what is taken instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed import plugins
from testbed.errors import UsageError, nearest
from testbed.parameters import number

if TYPE_CHECKING:
    import pyarrow as pa

    from testbed.perturb.attack import Attack
    from testbed.perturb.shift import Shift


def attack(
    ref: str,
    *,
    norm: str | None = None,
    eps: float | str | None = None,
    bounds: Any = (0.0, 1.0),
    batch: int = 256,
    transfer: bool = False,
    base: str | Path | None = None,
    **params: Any,
) -> Attack:
    """The attack `ref`, bound to a norm and a budget.

    ref     an installed name ("pgd"), any foolbox attack ("foolbox:LinfDeepFoolAttack"), or a user's own
            ("./my_attack.py:shrink", relative to `base`; "pkg.mod:Shrink")
    norm    the attack's first norm where absent; eps a number or a fraction such as "8/255"
    bounds  valid inputs, (low, high) or a pair a feature; batch examples at a time
    transfer  the images are for another model: examples that the attacked one gets wrong already are attacked too
    params  the attack's own

    >>> attack("pgd", norm="l2", eps="1/2", steps=10).params["steps"]
    10
    """
    from testbed.perturb.attack import Attack, bind, default_norm

    plugin = plugins.read("attack", ref, Path(base) if base is not None else None)
    budget = number(eps)
    chosen = norm if norm is not None else default_norm(plugin)
    if isinstance(budget, str):
        raise UsageError(f"attack {ref!r}: eps must be a number or a fraction such as '8/255', got {eps!r}")
    if hasattr(params.get("target"), "tolist"):  # an array or a tensor
        params["target"] = params["target"].tolist()
    typed = _fitting(plugin, params, lambda: bind(plugin, params, chosen, budget, bounds))
    return Attack(plugin, typed, chosen, None if budget is None else float(budget), bounds, batch, (), transfer)


def shift(ref: str, *, base: str | Path | None = None, **params: Any) -> Shift:
    """The shift `ref` with its parameters (`severity` among them): a function of uint8 images `[n h w c]`."""
    from testbed.perturb.shift import Shift

    plugin = plugins.read("shift", ref, Path(base) if base is not None else None)
    return Shift(plugin, _fitting(plugin, params, lambda: plugin.validate(params)))


def calibrator(ref: str, *, base: str | Path | None = None, **params: Any) -> Any:
    """The calibrator `ref`, not fitted: `.fit(logits, labels)` and then `.probs(logits)`."""
    return _built("calibrator", ref, base, params)


def detector(ref: str, *, base: str | Path | None = None, **params: Any) -> Any:
    """The detector `ref`, not fitted: `.fit(outputs)` and then `.score(outputs)`, larger = more out-of-distribution."""
    return _built("detector", ref, base, params)


def evaluate(grid: str | Path | Mapping[str, Any], **options: Any) -> pa.Table:
    """Run a grid, a YAML file or a dict, and give the rows of results.parquet."""
    from testbed.runner.run import evaluate as run

    table: pa.Table = run(grid, **options)
    return table


def _built(kind: str, ref: str, base: str | Path | None, params: Mapping[str, Any]) -> Any:
    plugin = plugins.read(kind, ref, Path(base) if base is not None else None)
    return plugin.build(**_fitting(plugin, params, lambda: plugin.validate(params)))


def _fitting(
    plugin: plugins.Plugin, params: Mapping[str, Any], validate: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The typed parameters; a schema error becomes one message that names every parameter at fault."""
    from pydantic import ValidationError

    known = [p.name for p in plugin.parameters]
    try:
        return validate()
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            name = ".".join(map(str, fault["loc"]))
            unknown = fault["type"] == "extra_forbidden"
            faults.append(
                f"{name}: unknown parameter; {nearest(name, known)}"
                if unknown
                else f"{name}: {fault['msg']} (got {params.get(name)!r})"
            )
        raise UsageError(f"{plugin.kind} {plugin.ref!r}: " + "; ".join(faults)) from None
