"""A condition's steps -> its key, its columns and its label: the only place that makes them.

A condition is what is done to a set: nothing (clean), shifts, attacks, or several one after the other. Its identity is
that of its steps: `condition_id` is a digest of plug-ins, parameters, severities, norms, radii, victims, rounding and
budgets of a curve, and of the calibrator where the victim is a model with a calibrator. The name that a grid gives it,
the plug-ins' sources and versions, and the grid are not in it, so that it joins the tables of two runs.

    columns      what results.parquet has of a condition (`COLUMNS`), from its steps
    combined     the same for a row over several conditions: a worst case, an aggregate, a pooled set
    set_key      what names one perturbed set of one model: rows that share an audit
    labels       the condition of each id in one cell of a table, told apart where the short form does not
    family       what the points of one curve over eps or severity have in common

Files of earlier versions have no `condition_id`: `derived_id` makes it from the other columns, as far as they say it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from testbed.digest import canonical, digest

Row: TypeAlias = Mapping[str, Any]

#: The columns of results.parquet that a condition decides.
COLUMNS: Final = ("condition", "kind", "severity", "norm", "eps", "victim", "params", "condition_id")

#: Kinds of rows that are of one set; the others are over several conditions.
OF_ONE_SET: Final = ("clean", "shift", "attack", "chain")


@dataclass(frozen=True)
class Step:
    """One shift or attack as plain values.

    params      the plug-in's own, typed and with all defaults
    curve       the budgets of the security curve that an attack is a point of
    calibrator  of a calibrated victim: `{"use", "params", "fit"}`, where the calibrator itself is attacked
    """

    kind: str
    use: str
    params: Mapping[str, Any] = field(default_factory=dict)
    severity: float | None = None
    norm: str | None = None
    eps: float | None = None
    victim: str = "model"
    quantised: bool = False
    curve: tuple[float, ...] = ()
    calibrator: Mapping[str, Any] | None = None

    def content(self) -> dict[str, Any]:
        """All that tells this step from others, without what is as usual."""
        plain = {"severity": self.severity, "norm": self.norm, "eps": self.eps, **self._marks()}
        plain |= {"victim": self.victim} if self.victim != "model" else {}
        named = {name: value for name, value in plain.items() if value is not None}
        return {"use": self.use, "params": dict(self.params), **named}

    def spelled(self, alone: bool = True) -> dict[str, Any]:
        """The step in the column `params`; in a chain with what the other columns say of the last attack alone."""
        own: dict[str, Any] = {"use": self.use, **self.params}
        if not alone and self.kind == "attack":
            victim = {"victim": self.victim} if self.victim != "model" else {}
            own = {"norm": self.norm, "eps": self.eps, **victim, **own}
        return {**own, **self._marks()}

    def _marks(self) -> dict[str, Any]:
        marks: dict[str, Any] = {"quantised": True} if self.quantised else {}
        marks |= {"curve": list(self.curve)} if self.curve else {}
        return {**marks, "calibrator": dict(self.calibrator)} if self.calibrator is not None else marks


def condition_id(steps: Sequence[Step]) -> str:
    """The id of a condition; that of clean data is the id of no steps."""
    return digest([step.content() for step in steps])


def kind(steps: Sequence[Step]) -> str:
    """clean, shift, attack or chain."""
    return "clean" if not steps else steps[0].kind if len(steps) == 1 else "chain"


def columns(name: str, steps: Sequence[Step]) -> dict[str, Any]:
    """The columns of a condition that the grid calls `name`.

    >>> row = columns("fog", [Step("shift", "fog", {"severity": 3.0}, severity=3.0)])
    >>> row["kind"], row["severity"], row["params"], label(row)
    ('shift', 3.0, '[{"severity":3.0,"use":"fog"}]', 'fog s3')
    """
    shift, attack = (next((s for s in reversed(steps) if s.kind == which), None) for which in ("shift", "attack"))
    return {
        "condition": name,
        "kind": kind(steps),
        "severity": shift.severity if shift else None,
        "norm": attack.norm if attack else None,
        "eps": attack.eps if attack else None,
        "victim": attack.victim if attack else None,
        "params": canonical([step.spelled(len(steps) == 1) for step in steps]) if steps else None,
        "condition_id": condition_id(steps),
    }


def combined(
    kind: str, name: str, *, norm: str | None = None, eps: float | None = None, victim: str | None = None,
    params: str | None = None, of: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    """The columns of a row over several conditions; `of` are their ids where they decide what it is.

    >>> combined("worst", "worst", norm="linf", eps=0.1, victim="model")["condition_id"] == worst_id("linf", 0.1)
    True
    """
    plain = {"norm": norm, "eps": eps, "victim": victim, "params": params}
    own = digest({"kind": kind, "name": name, "norm": norm, "eps": eps, "of": list(of)})
    return {"condition": name, "kind": kind, "severity": None, **plain, "condition_id": own}


def worst_id(norm: str, eps: float) -> str:
    """The id of the worst case over the attacks of one norm and radius."""
    return str(combined("worst", "worst", norm=norm, eps=eps)["condition_id"])


def derived_id(row: Row) -> str:
    """The id that a row of an earlier version would have: that of its columns, which do not say all of a chain.

    >>> row = columns("pgd", [Step("attack", "pgd", {"steps": 40}, norm="linf", eps=0.1)])
    >>> derived_id(row) == row["condition_id"]
    True
    """
    plain = {name: row.get(name) for name in COLUMNS[1:-1]}
    steps = _steps(row)
    if row.get("kind") == "worst":
        return worst_id(str(row["norm"]), float(row["eps"]))
    if row.get("kind") == "clean" or (not steps and row.get("condition") == "clean"):
        return condition_id(())
    if len(steps) != 1 or row.get("kind") not in OF_ONE_SET:
        return digest({**plain, "name": row.get("condition")})
    params = {name: value for name, value in steps[0].items() if name not in ("use", "curve")}
    one = Step(
        str(row["kind"]), steps[0].get("use", ""), params, row.get("severity"), row.get("norm"), row.get("eps"),
        row.get("victim") or "model",
    )  # fmt: skip
    return condition_id([one]) if "curve" not in steps[0] else digest({**one.content(), "curve": True})


def identified(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows of one run with their condition's id, where an earlier version left it out, and its `label`."""
    found = [{**row, "condition_id": row.get("condition_id") or derived_id(row)} for row in rows]
    names = labels(found)
    return [{**row, "label": names[row["condition_id"]]} for row in found]


def set_key(row: Row) -> tuple[Any, ...]:
    """What names one perturbed set of one model: the rows that share an audit."""
    return tuple(row.get(name) for name in ("dataset", "seed", "model", "train_seed", "condition_id"))


def label(row: Row) -> str:
    """A condition in one cell of a table: the `label` that its run gave it, else the short form."""
    return str(row["label"]) if row.get("label") else base_label(row)


def base_label(row: Row) -> str:
    """The short form: name, severity, budget and victim.

    >>> base_label({"condition": "pgd", "severity": None, "norm": "linf", "eps": 8 / 255})
    'pgd linf 0.03137'
    >>> base_label({"condition": "pgd", "norm": "l2", "eps": 0.5, "victim": "surrogate:standard"})
    'pgd l2 0.5 on surrogate:standard'
    """
    parts = [str(row["condition"])]
    parts += [f"s{row['severity']:g}"] if row.get("severity") is not None else []
    parts += [f"{row.get('norm') or ''} {row['eps']:.4g}".strip()] if row.get("eps") is not None else []
    parts += [f"on {row['victim']}"] if row.get("victim") not in (None, "", "model") else []
    return " ".join(parts)


def labels(rows: Iterable[Row]) -> dict[str, str]:
    """condition_id -> label, over all conditions of a run; two that would be labelled alike say what differs.

    Sets made against several calibrators keep one label: the column `calibrator` tells them apart.

    >>> weak, strong = (columns("pgd", [Step("attack", "pgd", {"steps": n}, norm="linf", eps=0.1)]) for n in (1, 20))
    >>> list(labels([weak, strong]).values())
    ['pgd linf 0.1 (steps=1)', 'pgd linf 0.1 (steps=20)']
    """
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(row["condition_id"], row)
    alike: dict[str, list[str]] = {}
    for one, row in firsts.items():
        alike.setdefault(base_label(row), []).append(one)
    found: dict[str, str] = {}
    for short, ids in alike.items():
        found |= {ids[0]: short} if len(ids) == 1 else _told_apart(short, {one: firsts[one] for one in ids})
    return {one: found[one] for one in firsts}


def whatever_calibrator(row: Row) -> str:
    """A condition's key among those that differ at most in the calibrator which a calibrated victim has."""
    steps = _steps(row)
    if not any("calibrator" in step for step in steps):
        return str(row["condition_id"])
    return digest([{name: row.get(name) for name in ("kind", "severity", "norm", "eps", "victim")}, _plain(steps)])


def family(row: Row) -> str:
    """All that a condition has in common with those that differ only in severity, eps or the victim's calibrator.

    >>> steps = '[{"eps":%s,"steps":40,"use":"pgd"}]'
    >>> one, two = ({"condition": "pgd", "norm": "linf", "params": steps % eps} for eps in (0.1, 0.2))
    >>> family(one) == family(two)
    True
    """
    kept = [{name: v for name, v in step.items() if name not in ("eps", "severity")} for step in _plain(_steps(row))]
    return json.dumps([row["condition"], row.get("norm"), row.get("victim"), kept], sort_keys=True)


def _steps(row: Row) -> list[dict[str, Any]]:
    """The steps in the column `params`; none where it lists something else, as an aggregate's does."""
    found = json.loads(row.get("params") or "[]")
    return [one for one in found if isinstance(one, dict) and "use" in one]


def _plain(steps: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in step.items() if name != "calibrator"} for step in steps]


def _told_apart(short: str, rows: Mapping[str, Row]) -> dict[str, str]:
    """The label of each id, followed by those values of its steps that not all of them have."""
    values = {one: _values(_plain(_steps(row))) for one, row in rows.items()}
    names = list(dict.fromkeys(name for own in values.values() for name in own))
    differ = [name for name in names if len({canonical(own.get(name)) for own in values.values()}) > 1]
    found = {}
    for one, own in values.items():
        said = [_said(name, own[name]) for name in differ if own.get(name) not in (None, False)]
        found[one] = f"{short} ({', '.join(said)})" if said else short
    groups: dict[str, dict[str, str]] = {}
    for one, text in found.items():
        groups.setdefault(text, {})[one] = canonical(values[one])
    return {one: text if len(set(groups[text].values())) == 1 else f"{text} {one[:6]}" for one, text in found.items()}


def _values(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len(steps) == 1:
        return dict(steps[0])
    found: dict[str, Any] = {"use": "+".join(str(step["use"]) for step in steps)}
    for number, step in enumerate(steps, 1):
        found |= {f"{step['use']} [{number}] {name}": value for name, value in step.items() if name != "use"}
    return found


def _said(name: str, value: Any) -> str:
    if name == "use":
        return str(value)
    if value is True:
        return name
    text = f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else canonical(value)
    return f"{name}={text}"
