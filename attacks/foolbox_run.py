"""Running one foolbox attack on a slice; see `foolbox_adapter` for what is put right and why."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from testbed.errors import MissingExtra, UsageError
from testbed.perturb.attack import Found, seeded
from testbed.perturb.geometry import confine, per_row
from testbed.perturb.victim import Victim

from .foolbox_adapter import Settings, ancestors
from .losses import ranked_targets

#: Attacks that foolbox can only aim at a class.
TARGETED_ONLY = frozenset({"GenAttack"})


def run(attack: Settings, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """All rows at once; one by one where `exact` asks for it or where the batch as a whole fails.

    Alone, an example has a seed of its own, from its id, so its result depends on nothing else in the slice.
    """
    rows = torch.arange(len(x), device=x.device)
    if attack.exact:
        return _one_by_one(attack, model, x, y, rng)
    try:
        return _valid(attack, _attempt(attack, model, x, y, rows), x)
    except (UsageError, MissingExtra):
        raise
    except Exception:  # foolbox raises ValueError, AssertionError and others for one bad example in a batch
        return _one_by_one(attack, model, x, y, rng)


def _one_by_one(attack: Settings, model: Victim, x: Tensor, y: Tensor, rng: Any) -> Found:
    """Each example alone. If every one fails, the last reason is raised: the attack itself is at fault."""
    out, failed, reasons = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device), []
    for row, number in enumerate(rng.integers(0, 2**62, name="alone").tolist()):
        one = torch.tensor([row], device=x.device)
        try:
            with seeded(number):
                out[one] = _attempt(attack, model.take(one), x[one], y[one], one, everyone=(x, model))
        except (UsageError, MissingExtra):
            raise
        except Exception as error:
            failed[row] = True
            reasons.append(error)
    if len(reasons) == len(x):
        raise reasons[-1]
    checked = _valid(attack, out, x)
    return Found(checked.x, None, failed | checked.failed, {"failed_examples": len(reasons)})


def _valid(attack: Settings, out: Tensor, x: Tensor) -> Found:
    """NaN rows are marked failed; fixed-eps images are clipped to the ball, as foolbox's own call does."""
    failed = ~out.flatten(1).isfinite().all(1)
    out = torch.where(per_row(failed, x), x, out).to(x.dtype)
    if "FixedEpsilonAttack" in ancestors(attack.name):
        out = confine(out, x, str(attack.norm), float(attack.eps or 0.0), *attack.bounds)
    return Found(out, None, failed)


def _attempt(attack: Settings, model: Victim, x: Tensor, y: Tensor, rows: Tensor, everyone: Any = None) -> Any:
    import eagerpy
    import foolbox

    wrapped = foolbox.PyTorchModel(_Module(model), bounds=_bounds(attack.bounds), device=x.device)
    instance = getattr(foolbox.attacks, attack.name)(**_constructor(attack, foolbox))
    criterion = _criterion(attack, foolbox, model, x, y, rows)
    inputs, extra = eagerpy.astensor(x), {}
    if attack.name == "DatasetAttack":
        pool, asked = (x, model) if everyone is None else everyone
        instance.feed(
            foolbox.PyTorchModel(_Module(asked), bounds=_bounds(attack.bounds), device=x.device), eagerpy.astensor(pool)
        )
    if attack.name == "BinarizationRefinementAttack":
        start = foolbox.attacks.SaltAndPepperNoiseAttack().run(wrapped, inputs, criterion)
        extra["starting_points"] = start
    if attack.name == "SpatialAttack":
        return instance(wrapped, x, criterion)[0].detach()
    if isinstance(instance, foolbox.attacks.base.FixedEpsilonAttack):
        return instance.run(wrapped, inputs, criterion, epsilon=attack.eps).raw.detach()
    try:
        return instance.run(wrapped, inputs, criterion, early_stop=attack.eps, **extra).raw.detach()
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "numba", f"foolbox:{attack.name}") from error


def _constructor(attack: Settings, foolbox: Any) -> dict[str, Any]:
    given = dict(attack.params)
    if "FlexibleDistanceMinimizationAttack" in ancestors(attack.name):
        given["distance"] = getattr(foolbox.distances, str(attack.norm))
    if attack.name == "HopSkipJumpAttack":
        given["constraint"] = attack.norm
    if attack.name == "PointwiseAttack":
        given.pop("distance")
    return given


def _criterion(attack: Settings, foolbox: Any, model: Victim, x: Tensor, y: Tensor, rows: Tensor) -> Any:
    import eagerpy

    if isinstance(attack.target, Tensor):
        return foolbox.criteria.TargetedMisclassification(eagerpy.astensor(attack.target[rows]))
    if not attack.target and attack.name not in TARGETED_ONLY:
        return foolbox.criteria.Misclassification(eagerpy.astensor(y))
    if attack.target not in ("", "second"):
        raise UsageError(
            f"foolbox:{attack.name}: target must be 'second' (the runner-up class) or classes, got {attack.target!r}"
        )
    with torch.no_grad():
        aim = ranked_targets(model(x), y, 1).squeeze(1)
    return foolbox.criteria.TargetedMisclassification(eagerpy.astensor(aim))


def _bounds(bounds: Any) -> tuple[float, float]:
    low, high = bounds
    if not isinstance(low, (int, float)):
        raise UsageError("foolbox attacks take one pair of bounds for all features; this set has a pair for each")
    return float(low), float(high)


class _Module(torch.nn.Module):
    """The victim as the torch module foolbox insists on. It holds no parameters, so none can be moved or trained."""

    def __init__(self, victim: Victim) -> None:
        super().__init__()
        self._ask = victim.__call__
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Logits of x."""
        return self._ask(x)
