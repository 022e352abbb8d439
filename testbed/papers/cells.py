"""The score jobs of a run that a line of published.csv names, and the probabilities behind them.

    stored: NAME WORD... / COLUMN=PATTERN ... / COLUMN=PATTERN ...

Words before the first slash hold for every side, each part behind a slash is one side. A pattern is matched as a file
name would be (`condition=rotated*`) against the columns of results.parquet; `metric` is one of them, because the jobs
know their metrics with their parameters. `members=all` makes one ensemble of all training seeds of a side: the mean of
their probabilities (Lakshminarayanan, Pritzel & Blundell 2017).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.resampled import ProbabilityMetric
from testbed.report.load import read_run
from testbed.results.paired import Side, metrics, probabilities
from testbed.store import Store, default_url
from testbed.types import Array, Job

#: What tells one evaluated set of a run from another.
SETS = ("dataset", "condition", "seed", "condition_id", "ood_set")

#: Columns that follow from the condition and so do not tell sets apart where sides differ in it.
OF_CONDITION = ("condition_id",)

Pick = Mapping[str, str]


@dataclass(frozen=True)
class Scored:
    """Probabilities float64 `[n k]` of one side on one set, labels `[n]`, in id order, and how they are measured."""

    p: Array
    y: Array
    metric: ProbabilityMetric
    draws: Draws
    members: int


def parse(text: str) -> tuple[dict[str, str], list[dict[str, str]]]:
    """What holds for all sides, and what tells each side.

    >>> parse("metric=ece model=net / condition=a / condition=b")
    ({'metric': 'ece', 'model': 'net'}, [{'condition': 'a'}, {'condition': 'b'}])
    """
    parts: list[dict[str, str]] = [{}]
    for word in shlex.split(text):
        name, equals, value = word.partition("=")
        if word == "/":
            parts.append({})
        elif equals:
            parts[-1][name] = value
        else:
            raise DataError(f"stored: {word!r}: expected COLUMN=PATTERN, or a slash between two sides")
    return parts[0], parts[1:]


@dataclass(frozen=True)
class Cells:
    """A run folder and the store that holds its artifacts."""

    side: Side

    @classmethod
    def of(cls, run: Path, store: str | None) -> Cells:
        """The cells of a run folder."""
        return cls(Side(read_run(run), Store(store or default_url()), {}))

    def rows(self, pick: Pick) -> list[dict[str, Any]]:
        """The rows that meet the pick; DataError where there is none, or where one has failed."""
        wanted = {name: value for name, value in pick.items() if name != "members"}
        found = []
        for row in self.side.run.rows:
            if all(fnmatchcase(_text(row.get(name)), value) for name, value in wanted.items()):
                if row.get("status") not in ("ok", "done"):
                    raise DataError(f"{_label(row)}: {row.get('error') or row.get('status')}")
                found.append(dict(row))
        if not found:
            raise DataError(f"no row of the run meets {_spelled(wanted)}")
        return found

    def groups(self, pick: Pick, apart: Sequence[str] = ()) -> dict[tuple[Any, ...], list[Job]]:
        """Set -> the score jobs on it, by training seed; columns in `apart` do not tell sets apart.

        Rows over several sets or seeds come from jobs of other kinds and are left out: they have no probabilities.
        """
        dropped = {*apart, *(OF_CONDITION if "condition" in apart else ())}
        found: dict[tuple[Any, ...], dict[str, Job]] = {}
        for row in self.rows(pick):
            key = tuple(None if name in dropped else row.get(name) for name in SETS)
            job = self.side.job(row["digest"])
            if job.kind == "score":
                found.setdefault(key, {})[job.digest] = job
        if not found:
            raise DataError(f"no row of the run that meets {_spelled(pick)} has probabilities of its own")
        return {key: list(jobs.values()) for key, jobs in found.items()}

    def scored(self, pick: Pick, jobs: Sequence[Job]) -> Scored:
        """The probabilities of one group: of one job, or the mean over all of them with `members=all`."""
        if len(jobs) > 1 and pick.get("members") != "all":
            raise DataError(f"{len(jobs)} cells of the run meet {_spelled(pick)}; name one, or say members=all")
        name, first = pick.get("metric", ""), jobs[0]
        known = metrics(self.side.store, first)
        if name not in known:
            raise DataError(f"metric={name or 'nothing'}: expected one of {', '.join(known)}")
        total, labels, ids = None, None, None
        for job in jobs:
            p, y, at, _ = probabilities(self.side.store, job)
            order = np.argsort(at, kind="stable")
            if ids is not None and not np.array_equal(ids, at[order]):
                raise DataError("the members of the ensemble were not evaluated on the same examples")
            total = p[order] if total is None else total + p[order]
            labels, ids = y[order], at[order]
        assert total is not None and labels is not None
        draws = Draws(int(first.recipe["seed"]), len(labels), int(first.recipe["intervals"]["replicates"]))
        return Scored(total / len(jobs), labels, known[name], draws, len(jobs))

    def only(self, pick: Pick) -> Scored:
        """The probabilities where the pick means one set."""
        groups = self.groups(pick)
        if len(groups) > 1:
            raise DataError(f"{len(groups)} sets of the run meet {_spelled(pick)}; name one condition")
        return self.scored(pick, next(iter(groups.values())))


def named(key: Sequence[Any]) -> str:
    """A set in words: its data set, and its condition where that tells it from others."""
    return " ".join(part for part in map(_text, key[:2]) if part)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _label(row: Mapping[str, Any]) -> str:
    return f"{row.get('model')} on {row.get('condition')}"


def _spelled(pick: Pick) -> str:
    return " ".join(f"{name}={value}" for name, value in pick.items())
