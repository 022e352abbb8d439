"""How a bound attack runs: `execute` is `Attack.run`. Kept apart because it needs torch and the handle must not."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from testbed import boundary, seeding
from testbed.boundary import predicted
from testbed.errors import DataError, PluginViolation, TestbedError
from testbed.perturb import aims, unit, verify
from testbed.perturb.attack import Attack, Found, seeded
from testbed.perturb.geometry import length, limits, per_row
from testbed.perturb.ledger import AttackResult, columns
from testbed.perturb.restarts import summary
from testbed.perturb.state import State
from testbed.perturb.victim import Counts, Victim, device_of, frozen
from testbed.types import (
    FLAG_BAD_GRADIENT,
    FLAG_CLIPPED,
    FLAG_FAILED,
    FLAG_NO_ANSWER,
    FLAG_PROJECTED,
    FLAG_ZERO_GRADIENT,
)


@dataclass(frozen=True)
class Checked:
    """The checked set on the model's device; `home` is the device it came from, `fresh` the passes that decide.

    aim   int64 `[n]`, the class each example is sent to, where the attack's target names them
    """

    x: Tensor
    y: Tensor
    ids: Any
    low: Any
    high: Any
    clipped: Tensor
    logits: Tensor
    wrong: Tensor
    home: Any
    fresh: int
    aim: Tensor | None = None

    @property
    def idle(self) -> Tensor:
        """bool `[n]`: examples that are sent to their own label."""
        return torch.zeros_like(self.wrong) if self.aim is None else self.aim == self.y


def execute(attack: Attack, model: Any, x: Any, y: Any, *, ids: Any, seed: int) -> AttackResult:
    """See `Attack.run`."""
    if (inside := unit.inside([attack], model, x, y)) is not None:
        return inside.outside(execute(inside.attacks[0], inside.box, inside.u, y, ids=ids, seed=seed))
    training = bool(getattr(model, "training", False))
    with torch.inference_mode(False), frozen(model), torch.no_grad():
        state = State(model)
        data = prepare(attack, model, x, y, ids, seed)
        victim = Victim(model, ids=data.ids, labels=data.y, batch=attack.batch)
        victim.withheld = data.wrong if attack.transfer else None
        with verify.untouched(attack.plugin.ref, state.settled(), x=data.x, y=data.y):
            found = _attack(attack, victim, data, seed)
        result = judge(attack, model, data, found, victim.counts, seed)
        facts = model_facts(attack, model, data, training) | gradient_facts(victim.counts) | output_facts(result)
        if has_noise(attack) and len(data.x):
            fooled = noise_fools(attack, model, data, seed, ~data.wrong)
            facts["noise_success"] = float(fooled.sum()) / max(int((~data.wrong).sum()), 1)
        if found.restarts is not None:
            facts |= summary(len(data.x), [_fooled(attack, model, data, images, seed) for images in found.restarts])
        return replace(result, audit={**found.info, **facts})


def prepare(attack: Attack, model: Any, x: Any, y: Any, ids: Any, seed: int) -> Checked:
    """The set as `Attack.run` takes it, checked, with the model's clean logits."""
    x = verify.tensor(x)
    y = verify.labels(y, len(x))
    ids = np.arange(len(x)) if ids is None else np.asarray(ids, dtype=np.int64).reshape(-1)
    if len(ids) != len(x):
        raise DataError(f"attack: {len(x)} inputs but {len(ids)} ids")
    home = x.device
    labelled = attack.plugin.facts["objective"] != "detector"
    device = device_of(model)
    low, high = limits(attack.bounds, x, device)
    x, clipped = verify.inputs(x.to(device), y.to(device), low, high, labelled=labelled)
    y = y.to(device)
    if len(x) == 0:
        nothing = torch.zeros(0, dtype=torch.bool, device=device)
        return Checked(x, y, ids, low, high, clipped, torch.zeros(0, 2, device=device), nothing, home, 1)
    fresh = int(getattr(attack.plugin.build(**attack.params), "fresh_draws", 1))
    before = x.clone()
    logits = verify.logits_of(_decided(attack, model, x, ids, seed, fresh, "clean"), y, labelled=labelled)
    if not torch.equal(before, x):
        raise boundary.writes(model)
    wrong = (
        predicted(logits) != y if attack.plugin.facts["objective"] == "label" else torch.zeros_like(y, dtype=torch.bool)
    )
    aim = aims.given(attack, len(x), logits.shape[1], device)
    return Checked(x, y, ids, low, high, clipped, logits, wrong, home, fresh, aim)


def _decided(attack: Attack, model: Any, x: Tensor, ids: Any, seed: int, fresh: int, what: str) -> Tensor:
    """The logits that decide, with a seed of their own: a model that draws from torch's generator is judged alike."""
    with seeded(seeding.shard_seed(f"attack-judge-{what}", 1, seed, ids)):
        return averaged(Victim(model, batch=attack.batch), x, fresh)


def averaged(victim: Victim, x: Tensor, fresh: int) -> Tensor:
    """Logits `[n k]` of one pass, or the log of the mean softmax of `fresh` passes of a randomised model."""
    if fresh == 1:
        return victim(x)
    return torch.stack([victim(x).log_softmax(1) for _ in range(fresh)]).logsumexp(0) - math.log(fresh)


def _attack(attack: Attack, victim: Victim, data: Checked, seed: int) -> Found:
    """The plug-in, slice by slice, on every example that is not wrong already; on all for another model."""
    whole = Found(data.x.clone(), data.wrong.long() - 1, torch.zeros_like(data.wrong), {})
    rows = torch.nonzero((~data.wrong | attack.transfer) & ~data.idle).flatten()
    if len(rows) == 0 or attack.eps == 0:
        return whole
    target = attack.plugin.build(**attack.params)
    size = len(rows) if getattr(target, "streams", False) else attack.batch
    info: dict[str, list[Any]] = {}
    restarts = None
    for at in torch.split(rows, size):
        part = ask(attack, target, victim.take(at), data, at, seed)
        whole.x[at], whole.first_step[at], whole.failed[at] = part.x, part.first_step, part.failed
        for key, value in part.info.items():
            info.setdefault(key, []).append((_spread(value, at, len(data.x)), len(at)))
        if part.restarts is not None:
            restarts = torch.stack([data.x] * len(part.restarts)) if restarts is None else restarts
            restarts[:, at] = part.restarts
    merged = {key: _merge(values) for key, values in info.items()}
    return Found(whole.x, whole.first_step, whole.failed, merged, restarts)


def ask(attack: Attack, target: Callable[..., Any], victim: Victim, data: Checked, rows: Tensor, seed: int) -> Found:
    """What the plug-in, built as `target`, finds for these rows of the set, with its images checked.

    victim   of these rows; where the plug-in does not say which evaluation first fooled an example, its counts do
    """
    ids, clean = data.ids[rows.cpu().numpy()], data.x[rows]
    target = aims.sent(target, None if data.aim is None else data.aim[rows])
    part = _call(attack, target, victim, clean.clone(), data.y[rows].clone(), ids, seed, data)

    def checked(images: Any) -> Tensor:
        out = verify.output(attack.plugin.ref, images, clean, data.low, data.high)
        out[:, list(attack.fixed)] = clean[:, list(attack.fixed)]
        return out

    images = checked(part.x)
    failed = torch.zeros_like(data.wrong[rows]) if part.failed is None else torch.as_tensor(part.failed).to(rows.device)
    x = torch.where(per_row(failed, images), clean, images)
    restarts = None if part.restarts is None else torch.stack([checked(run) for run in part.restarts])
    where = victim.positions(torch.arange(len(rows), device=rows.device))
    seen = victim.counts.first_wrong[where]
    steps = (
        torch.where(seen > 0, seen, victim.counts.queries[where])
        if part.first_step is None
        else torch.as_tensor(part.first_step).to(rows.device)
    )
    return Found(x, steps.long(), failed, part.info, restarts)


def _spread(value: Any, at: Tensor, n: int) -> Any:
    """A value an example, laid out over the whole set with -1 where the attack was not asked; numbers as they are."""
    if not isinstance(value, Tensor) or value.shape != at.shape:
        return value
    whole = torch.full((n,), -1, dtype=value.dtype, device=value.device)
    whole[at] = value
    return whole.cpu().numpy()


def _merge(values: list[tuple[Any, int]]) -> Any:
    """One slice's value as it is; arrays joined, numbers averaged with the slices' sizes."""
    if len(values) == 1:
        return values[0][0]
    if isinstance(values[0][0], np.ndarray):
        return np.maximum.reduce([value for value, _ in values])
    total = sum(size for _, size in values)
    return sum(float(value) * size for value, size in values) / total


def _call(
    attack: Attack,
    target: Callable[..., Any],
    victim: Victim,
    x: Tensor,
    y: Tensor,
    ids: Any,
    seed: int,
    data: Checked,
) -> Found:
    plugin, key = attack.plugin, attack.plugin.facts["draws"]
    asks = inspect.signature(target).parameters
    operation = f"attack:{plugin.name}"
    shard = seeding.shard_seed(operation, key, seed, ids)
    draws: dict[str, Any] = {}
    if "rng" in asks:
        draws["rng"] = seeding.Rng(operation, int(str(key).partition("/")[0]), seed, ids)
    if "generator" in asks:
        draws["generator"] = torch.Generator(device=x.device).manual_seed(shard)
    if "others" in asks and data.aim is not None:
        draws["others"] = data.x[~data.wrong], data.y[~data.wrong]
    try:
        with seeded(shard), torch.enable_grad():
            out = target(victim, x, y, **draws)
    except TestbedError:
        raise
    except Exception as error:
        raise PluginViolation(
            f"attack {plugin.ref!r} raised {type(error).__name__}: {error} "
            f"(on {len(x)} examples){boundary.place(error)}"
        ) from error
    return out if isinstance(out, Found) else Found(out)


def judge(attack: Attack, model: Any, data: Checked, found: Found, counts: Counts, seed: int) -> AttackResult:
    """Verify the images, score them with a forward pass of our own and write the ledger."""
    x_adv, projected = _verified(attack, found.x, data)
    logits = _decided(attack, model, x_adv, data.ids, seed, data.fresh, "attacked") if len(x_adv) else data.logits
    if attack.plugin.facts["objective"] == "confidence":
        changed = predicted(logits) != predicted(data.logits)
        x_adv[changed], logits[changed] = data.x[changed], data.logits[changed]
        found.failed[changed] = True
    labelled = data.y >= 0
    success = (predicted(logits) != data.y) & labelled
    margin, loss = _margin_and_loss(logits, data.y.clamp_min(0))
    marks = [
        (data.clipped, FLAG_CLIPPED), (projected, FLAG_PROJECTED), (found.failed, FLAG_FAILED),
        (counts.zero_gradients > 0, FLAG_ZERO_GRADIENT), (counts.bad_gradients > 0, FLAG_BAD_GRADIENT),
        (~boundary.answered(logits), FLAG_NO_ANSWER),
    ]  # fmt: skip
    first = torch.where(success, found.first_step.clamp_min(1), -torch.ones_like(found.first_step))
    before = (predicted(data.logits) != data.y) & labelled
    stage = torch.as_tensor(found.info.get("stage", torch.zeros_like(first))).to(first).clamp_min(0)
    table = columns(
        success=success,
        first_step=torch.where(before, torch.zeros_like(first), first),
        stage=stage.where(success & ~before, -1),
        gradients=counts.gradients,
        queries=counts.queries,
        distance=length(x_adv - data.x, attack.norm or "linf"),
        margin=margin.masked_fill(~labelled, float("nan")),
        loss=loss.masked_fill(~labelled, float("nan")),
        confidence_before=data.logits.double().softmax(1).amax(1),
        confidence_after=logits.double().softmax(1).amax(1),
        flags=sum(mask.int() * bit for mask, bit in marks),
    )
    return AttackResult(x=x_adv.to(data.home), audit={}, **table)


def _verified(attack: Attack, x: Tensor, data: Checked) -> tuple[Tensor, Tensor]:
    """The images inside the ball, clean where wrong beforehand, and which of them had to be moved onto it."""
    projected = torch.zeros_like(data.wrong)
    if attack.norm is not None and attack.eps is not None:
        name, minimal = attack.plugin.ref, attack.plugin.facts["minimal"]
        x, projected = verify.budget(name, x, data.x, attack.norm, attack.eps, data.low, data.high, minimal=minimal)
    if not attack.transfer:
        x[data.wrong] = data.x[data.wrong]
    return x, projected


def _fooled(attack: Attack, model: Any, data: Checked, images: Tensor, seed: int) -> int:
    """How many examples the images of one restart fool, verified and judged as the set itself is."""
    x, _ = _verified(attack, images, data)
    logits = _decided(attack, model, x, data.ids, seed, data.fresh, "attacked")
    return int(((predicted(logits) != data.y) & (data.y >= 0)).sum())


def _margin_and_loss(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """z_y - max other z, and cross-entropy, both float64 `[n]`."""
    wide = logits.double()
    own = wide.gather(1, y[:, None]).squeeze(1)
    others = wide.scatter(1, y[:, None], float("-inf")).amax(1)
    return own - others, torch.logsumexp(wide, 1) - own


def model_facts(attack: Attack, model: Any, data: Checked, training: bool) -> dict[str, Any]:
    """What the audit wants to know of model and set, whatever the budget; a forward pass of one batch."""
    if len(data.x) == 0:
        return {}
    few = data.x[: attack.batch]
    with seeded(seeding.shard_seed("attack-audit", 1, 0, data.ids)):
        once = data.logits if data.fresh == 1 else Victim(model, batch=attack.batch)(few)
        again = Victim(model, batch=attack.batch)(few)
    softmaxed = bool((once >= 0).all()) and bool(((once.sum(1) - 1).abs() < 1e-4).all())
    both = boundary.answered(again) & boundary.answered(once[: len(few)])
    drift = (again - once[: len(few)])[both].abs()
    return {
        "n": len(data.x),
        "already_wrong": int(data.wrong.sum()),
        "clipped_inputs": int(data.clipped.sum()),
        "softmax_as_logits": softmaxed,
        "was_in_train_mode": training,
        "randomised_forward": float(drift.max()) if len(drift) else 0.0,
        **({"fresh_draws": data.fresh} if data.fresh > 1 else {}),
    }


def output_facts(result: AttackResult) -> dict[str, float]:
    """The share of the examples on whose attacked image the model gives no answer, where there are such."""
    share = float(((result.flags & FLAG_NO_ANSWER) > 0).mean()) if len(result) else 0.0
    return {"no_answer_share": share} if share else {}


def gradient_facts(counts: Counts) -> dict[str, float]:
    """Shares of the gradients that were exactly zero, and that held NaN or infinity; nothing for an empty set."""
    if len(counts.gradients) == 0:
        return {}
    total = float(counts.gradients.sum()) or 1.0
    return {
        "zero_gradient_share": float(counts.zero_gradients.sum()) / total,
        "bad_gradient_share": float(counts.bad_gradients.sum()) / total,
    }


def has_noise(attack: Attack) -> bool:
    """Whether there is a ball to draw random noise of the same size in."""
    return attack.norm in ("linf", "l2", "l1") and bool(attack.eps)


def noise_fools(attack: Attack, model: Any, data: Checked, seed: int, among: Tensor) -> Tensor:
    """bool `[n]`: which of the examples marked by `among` one random perturbation of size eps fools."""
    from testbed.perturb.geometry import confine, random_direction

    rows, out = torch.nonzero(among).flatten(), torch.zeros_like(among)
    if len(rows) == 0:
        return out
    x, norm, eps = data.x[rows], str(attack.norm), float(attack.eps or 0.0)
    rng = seeding.Rng("attack-audit-noise", 1, seed, data.ids[rows.cpu().numpy()])
    step = random_direction(rng, x, norm, "noise")
    step = step.sign() if norm == "linf" else step / per_row(length(step, norm).float().clamp_min(1e-30), step)
    noisy = confine(x + eps * step, x, norm, eps, data.low, data.high)
    with seeded(seeding.shard_seed("attack-audit-noise", 1, seed, data.ids)):
        logits = Victim(model, batch=attack.batch)(noisy)
    out[rows] = predicted(logits) != data.y[rows]
    return out
