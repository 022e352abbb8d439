"""What a descent leaves at each of its budgets: images and a ledger, as an attack alone would give them.

    fooled here by an attack or by a larger budget's image   that image
    fooled at a smaller budget, this one was passed over     the smaller one's image, which lies in this ball too
    attacked here, stands                                    the image of the highest loss
    stands at a larger budget                                the larger one's image, brought into this ball

Every image is judged again, from the smallest budget up, so that what fools at one fools at all larger ones. Costs are
what was spent at a budget: their sum is the price of the curve. Of the audit, what does not depend on the budget is
asked once; random noise that fails at a larger budget is not tried at a smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from testbed.boundary import predicted
from testbed.perturb import unit
from testbed.perturb.attack import Attack, Found
from testbed.perturb.descent import Descent, prepared
from testbed.perturb.execution import Checked, gradient_facts, has_noise, judge, model_facts, noise_fools, output_facts
from testbed.perturb.geometry import confine
from testbed.perturb.ledger import AttackResult
from testbed.perturb.victim import Counts, frozen


@dataclass
class Shelf:
    """The best image of each example at each budget so far, and how it came about; a `descent.Record`.

    x `[b n ...]`; loss float32 `[b n]`, -inf where there is none yet; first and stage int64 `[b n]`, evaluation
    and part of the attack that first fooled it, or -1; failed bool `[b n]`
    late   a budget -> (share of the loss gained late, examples) of each attack
    """

    data: Checked
    x: Tensor
    loss: Tensor
    first: Tensor
    stage: Tensor
    failed: Tensor
    late: dict[int, list[tuple[float, int]]]

    @classmethod
    def empty(cls, data: Checked, b: int) -> Shelf:
        """Nothing but the clean images."""
        n, device = len(data.x), data.x.device
        return cls(
            data,
            data.x.expand(b, *data.x.shape).clone(),
            torch.full((b, n), float("-inf"), device=device),
            torch.full((b, n), -1, dtype=torch.long, device=device),
            torch.full((b, n), -1, dtype=torch.long, device=device),
            torch.zeros((b, n), dtype=torch.bool, device=device),
            {},
        )

    def __call__(
        self, rows: Tensor, levels: Tensor, images: Tensor, logits: Tensor, attack: tuple[int, Found] | None
    ) -> None:
        """Keep what fools, else what has the highest loss."""
        y = self.data.y[rows]
        fools = predicted(logits) != y
        loss = torch.nn.functional.cross_entropy(logits, y, reduction="none").to(self.loss)
        better = fools | (loss > self.loss[levels, rows])
        at, who = levels[better], rows[better]
        self.x[at, who], self.loss[at, who] = images[better], loss[better]
        at, who = levels[fools], rows[fools]
        if attack is None:
            self.first[at, who], self.stage[at, who] = 1, self.stage[at + 1, who]
            return
        stage, found = attack
        self.first[at, who] = 1 if found.first_step is None else found.first_step[fools].clamp_min(1)
        self.stage[at, who] = stage
        if found.failed is not None:
            self.failed[levels, rows] = found.failed
        if "late_gain" in found.info:
            for level in set(levels[~fools].tolist()):
                stood = int((levels[~fools] == level).sum())
                self.late.setdefault(level, []).append((float(found.info["late_gain"]), stood))

    def complete(self, descent: Descent) -> None:
        """An image for every example at every budget, by the rules above."""
        data, b = self.data, len(descent.attacks)
        for level in reversed(range(b - 1)):
            rows = torch.nonzero((descent.stood >= level) & self.loss[level].isinf()).flatten()
            far, eps = self.x[level + 1, rows], descent.radii[level]
            self.x[level, rows] = confine(far, data.x[rows], descent.norm, eps, data.low, data.high)
        for level in range(1, b):
            self.inherit(level, (descent.fooled < level) & (self.first[level] < 0) & ~data.wrong)

    def inherit(self, level: int, which: Tensor) -> None:
        """These examples have the next smaller budget's image."""
        for kept in (self.x, self.first, self.stage):
            kept[level, which] = kept[level - 1, which]


def levels(
    attacks: Sequence[Attack], model: Any, x: Any, y: Any, *, ids: Any = None, seed: int = 0
) -> list[AttackResult]:
    """One result a budget, rising like `attacks`; arguments as `Attack.run`.

    >>> import testbed
    >>> at = lambda eps: testbed.attack("pgd", norm="linf", eps=eps, steps=5)
    >>> found = levels([at(0.01), at(0.2)], torch.nn.Linear(2, 3), torch.full((4, 2), 0.5), torch.arange(4) % 3)
    >>> [bool((one.distance <= eps + 1e-6).all()) for one, eps in zip(found, (0.01, 0.2))]
    [True, True]
    """
    if (inside := unit.inside(attacks, model, x, y)) is not None:
        found = levels(inside.attacks, inside.box, inside.u, y, ids=ids, seed=seed)
        return [inside.outside(one) for one in found]
    training = bool(getattr(model, "training", False))
    with prepared(attacks, model, x, y, ids, seed) as (unbound, data):
        shelf = Shelf.empty(data, len(attacks))
        descent = Descent(unbound, model, data, seed, shelf)
        descent.run()
    with torch.inference_mode(False), frozen(model), torch.no_grad():
        shelf.complete(descent)
        return _judged(attacks, model, descent, shelf, training, seed)


def _judged(
    attacks: Sequence[Attack], model: Any, descent: Descent, shelf: Shelf, training: bool, seed: int
) -> list[AttackResult]:
    """The ledgers, from the smallest budget up; what fools at one stands for an example at the next, if need be."""
    data, results = descent.data, list[AttackResult]()
    known = model_facts(attacks[0], model, data, training)
    noise = _noise(attacks, model, data, seed)
    for level, attack in enumerate(attacks):
        if results:
            below = torch.as_tensor(results[-1].success, device=data.x.device)
            shelf.inherit(level, below & ~data.wrong & (shelf.first[level] < 0))
        failed = shelf.failed[level] & (shelf.first[level] < 0)
        counts = _at(descent.victim.counts, level, len(data.x))
        result = judge(
            attack,
            model,
            data,
            Found(shelf.x[level].clone(), shelf.first[level], failed, {"stage": shelf.stage[level]}),
            counts,
            seed,
        )
        audit = {**_late(shelf.late.get(level, [])), **known, **gradient_facts(counts), **noise[level]}
        audit |= output_facts(result)
        results.append(replace(result, audit=audit))
    return results


def _at(counts: Counts, level: int, n: int) -> Counts:
    """What was spent at one budget."""
    return Counts(*(getattr(counts, f.name)[level * n : (level + 1) * n] for f in fields(Counts)))


def _late(gains: Sequence[tuple[float, int]]) -> dict[str, float]:
    """The mean over the attacks that a budget was part of, weighted by the examples that stood it there."""
    total = sum(count for _, count in gains)
    return {"late_gain": sum(gain * count for gain, count in gains) / total} if total else {}


def _noise(attacks: Sequence[Attack], model: Any, data: Checked, seed: int) -> list[dict[str, float]]:
    """The share of the rightly classified examples that random noise fools at each budget."""
    found, still, right = list[dict[str, float]](), ~data.wrong, max(int((~data.wrong).sum()), 1)
    for attack in reversed(attacks):
        if not has_noise(attack):
            found.append({})
            continue
        still = noise_fools(attack, model, data, seed, still)
        found.append({"noise_success": float(still.sum()) / right})
    return found[::-1]
