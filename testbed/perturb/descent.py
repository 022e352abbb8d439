"""The budgets of a security curve in one go: every example goes down from the largest until the attack fails on it.

    level = the largest budget
    attack at level -> fails: the example stands here and at every smaller budget
                    -> fools: level = the next smaller one; while the image, brought into that ball, fools there too,
                       one further down; then the attack again, from its own start

So a curve is monotone per example, and an example costs one attack that fails, at the largest budget at which it
stands, and those that succeed above. Draws do not depend on the budget: each attack is the run it would be alone, and
the curve differs from separate runs only where an attack fails at a budget and would have succeeded at a smaller one.

Where an attack says how early a success foretells one at the next smaller budget (`early`, evaluations), that budget
is passed over: the image that fools at the one below lies in its ball too, and where none does it is attacked after
all. So each example is known to stand at one budget and to be fooled at the next larger one.

Examples go down each at its own pace, and are attacked together whatever their budgets are: a plug-in class with
`row_eps = True` takes a budget a row. An attack of several stages is asked a stage at a time, the earliest that anyone
waits for first, so that nobody enters the dear last stage before all who will need it are there. Other attacks are
asked a budget at a time. One that minimises the distance is run once, without a budget: a smaller one only asks whether
what was found lies inside, or fools when it is brought there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from testbed import seeding
from testbed.boundary import predicted
from testbed.errors import UsageError
from testbed.perturb import verify
from testbed.perturb.attack import Attack, Found, seeded
from testbed.perturb.execution import Checked, ask, averaged, prepare
from testbed.perturb.geometry import confine, length
from testbed.perturb.state import State
from testbed.perturb.victim import Victim, frozen


class Record(Protocol):
    """What is told of every attack and of every image that fools at a smaller budget."""

    def __call__(
        self, rows: Tensor, levels: Tensor, images: Tensor, logits: Tensor, attack: tuple[int, Found] | None
    ) -> None:
        """Rows `[m]`, their levels `[m]`, images in those balls, their logits; the attack's stage and what it says.

        Without an attack they are the images of the next larger budget, which fool in these balls too.
        """


class Descent:
    """n examples on their way down b budgets; `run()` takes them all the way.

    attacks   the attack at each budget, rising
    level     int64 `[n]`, where each example is attacked, and in the end the largest budget at which it stands; -1
              where it is fooled at all of them
    fooled    int64 `[n]`, the smallest budget at which it is known to be fooled; b where none is
    reach     float64 `[n]`, the smallest distance of an image that fools: 0 wrong before, infinite never
    victim    counts what each example cost at each budget, `[b n]` flat
    """

    def __init__(
        self, attacks: Sequence[Attack], model: Any, data: Checked, seed: int, record: Record | None = None
    ) -> None:
        n, b, device = len(data.x), len(attacks), data.x.device
        self.attacks, self.data, self.seed, self.norm, self.record = attacks, data, seed, str(attacks[0].norm), record
        self.radii = torch.tensor([float(one.eps or 0.0) for one in attacks], device=device)
        self.once = attacks[0].params.get("eps", 0.0) is None
        target = attacks[0].plugin.build(**attacks[0].params)
        self.together = bool(getattr(target, "row_eps", False)) and not self.once and _differ_in_eps_only(attacks)
        self.streams, self.stages = bool(getattr(target, "streams", False)), [name for name, _ in _parts(target)]
        self.early = int(getattr(target, "early", 0))
        self.victim = Victim(model, ids=np.arange(b * n), labels=data.y.repeat(b), batch=attacks[0].batch)
        self.judge = Victim(model, batch=attacks[0].batch)
        self.level = torch.full((n,), b - 1, device=device).where(~data.wrong, -1)
        self.stood = torch.full((n,), -1, device=device).where(~data.idle, b - 1)
        self.fooled = torch.full((n,), b, device=device).where(~data.wrong, 0)
        self.stage = torch.zeros(n, dtype=torch.long, device=device)
        self.reach = torch.full((n,), float("inf"), dtype=torch.float64, device=device).where(~data.wrong, 0.0)
        self._settle(torch.nonzero(~data.wrong & ~data.idle).flatten())

    def run(self) -> None:
        """Until nobody is left to attack."""
        while len(rows := torch.nonzero(self.level > self.stood).flatten()):
            stage = int(self.stage[rows].min())
            rows = rows[self.stage[rows] == stage]
            if not self.together:
                rows = rows[self.level[rows] == self.level[rows].max()]
            for part in torch.split(rows, len(rows) if self.streams else self.victim.batch):
                self._attack(part, stage)

    def _attack(self, rows: Tensor, stage: int) -> None:
        """One stage on rows that wait for it, each at its level."""
        attack, data, level = self.attacks[int(self.level[rows].max())], self.data, self.level[rows]
        eps, places = self.radii[level], self._places(rows)
        target = attack.plugin.build(**{**attack.params, **({"eps": eps} if self.together else {})})
        _, part = _parts(target)[stage]
        before = self.victim.counts.queries[places]
        found = ask(attack, part, self.victim.take(places), data, rows, self.seed)
        spent = self.victim.counts.queries[places] - before
        minimal = bool(getattr(part, "minimal", attack.plugin.facts["minimal"]))
        near, _ = verify.budget(
            attack.plugin.ref, found.x, data.x[rows], self.norm, eps, data.low, data.high, minimal=minimal
        )
        logits = averaged(self.judge, near, data.fresh)
        fools = predicted(logits) != data.y[rows]
        if self.record is not None:
            self.record(rows, level, near, logits, (stage, found))
        self.stage[rows[~fools]] += 1
        self._rest(rows[~fools])
        self._fall(rows[fools], near[fools], logits[fools], spent[fools] <= self.early)

    def _rest(self, rows: Tensor) -> None:
        """Rows that all stages failed on stand where they are; what was passed over above is then looked at."""
        done = rows[self.stage[rows] >= len(self.stages)]
        self.stood[done] = self.level[done]
        above = done[self.fooled[done] - self.level[done] > 1]
        self.level[above] += 1
        self.stage[above] = 0

    def _fall(self, rows: Tensor, images: Tensor, logits: Tensor, early: Tensor) -> None:
        """These images fool these rows at their level: down, for as long as they fool in the smaller ball."""
        data = self.data
        while len(rows):
            self.reach[rows] = torch.minimum(self.reach[rows], length(images - data.x[rows], self.norm))
            self.fooled[rows] = self.level[rows]
            self.level[rows] -= 1
            self.stage[rows] = 0
            below = self.level[rows] > self.stood[rows]
            rows, images, logits, early = rows[below], images[below], logits[below].clone(), early[below]
            level = self.level[rows]
            near = confine(images, data.x[rows], self.norm, self.radii[level], data.low, data.high)
            moved = torch.nonzero((near != images).flatten(1).any(1)).flatten()
            if len(moved):
                logits[moved] = averaged(self.victim.take(self._places(rows[moved])), near[moved], data.fresh)
            fools = predicted(logits) != data.y[rows]
            if self.record is not None:
                self.record(rows[fools], level[fools], near[fools], logits[fools], None)
            self._pass_over(rows[~fools & early])
            self._settle(rows[~fools])
            rows, images, logits, early = rows[fools], near[fools], logits[fools], early[fools]

    def _pass_over(self, rows: Tensor) -> None:
        """The budget below, where there is one that is open."""
        self.level[rows] -= (self.level[rows] - 1 > self.stood[rows]).long()

    def _settle(self, rows: Tensor) -> None:
        """Rows that have come to a level stay there where the ball is a point or the attack is not run twice."""
        done = self.radii[self.level[rows]] == 0
        if self.once:
            done |= self.level[rows] < len(self.attacks) - 1
        self.stage[rows[done]] = len(self.stages)
        self._rest(rows[done])

    def _places(self, rows: Tensor) -> Tensor:
        """Where the victim counts what these rows cost at the budget they are at."""
        return self.level[rows] * len(self.data.x) + rows


def descend(attacks: Sequence[Attack], model: Any, x: Any, y: Any, *, ids: Any, seed: int) -> Descent:
    """The whole descent of one set; arguments as `Attack.run`, `attacks` rising in eps."""
    with prepared(attacks, model, x, y, ids, seed) as (unbound, data):
        descent = Descent(unbound, model, data, seed)
        descent.run()
    return descent


@contextmanager
def prepared(
    attacks: Sequence[Attack], model: Any, x: Any, y: Any, ids: Any, seed: int
) -> Iterator[tuple[Sequence[Attack], Checked]]:
    """The attacks as a descent takes them and the checked set; inside, the model is frozen and draws are seeded."""
    plugin = attacks[0].plugin
    if plugin.facts["objective"] != "label":
        raise UsageError(
            f"attack {plugin.ref!r} moves the {plugin.facts['objective']}; a curve of robust accuracy takes an attack "
            "on labels"
        )
    if any(one.transfer for one in attacks):
        raise UsageError("a curve's examples stop where the attacked model errs; for another model attack at each eps")
    attacks = [unbounded(one) for one in attacks]
    with torch.inference_mode(False), frozen(model), torch.no_grad():
        state = State(model)
        data = prepare(attacks[0], model, x, y, ids, seed)
        judged = seeded(seeding.shard_seed("attack-judge-descent", 1, seed, data.ids))
        with verify.untouched(plugin.ref, state.settled(), x=data.x, y=data.y), judged:
            yield attacks, data


def unbounded(attack: Attack) -> Attack:
    """The attack without a budget where it minimises the distance: it then does not stop at the first image inside."""
    if not attack.plugin.facts["minimal"] or attack.params.get("eps") is None:
        return attack
    return replace(attack, params={**attack.params, "eps": None})


def _parts(target: Any) -> list[tuple[str, Callable[..., Any]]]:
    """The attacks to run one after the other, by name."""
    return list(target.stages()) if hasattr(target, "stages") else [("", target)]


def _differ_in_eps_only(attacks: Sequence[Attack]) -> bool:
    """Whether one attack with another budget is the other attack."""
    plain = [replace(one, eps=None, params={**one.params, "eps": None}) for one in attacks]
    own = all(one.params.get("eps") == one.eps for one in attacks)
    return own and all(one == plain[0] for one in plain)
