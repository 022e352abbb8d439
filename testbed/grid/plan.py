"""The plan: every job with its digest, every cell with the job that gives its value. Frozen before anything runs.

The runner reads nothing but this. A cell's row holds what the grid calls things (names, groups, severities); the job's
recipe holds what decides the value. So renaming a model runs nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from testbed.types import Job

PLAN_VERSION = 1


@dataclass(frozen=True)
class Cell:
    """One number to be had: the columns that name it, and which row of which score artifact it is.

    metric  position of the metric in the score job's list
    """

    row: Mapping[str, Any]
    digest: str
    metric: int


@dataclass(frozen=True)
class Sample:
    """One (model, condition) of samples.parquet: the columns that name it and the job that gives its rows.

    label  the condition as this run's tables have it
    """

    row: Mapping[str, Any]
    digest: str
    label: str = ""


@dataclass(frozen=True)
class Preview:
    """Where the images of one (model, condition) lie, for the strip in the report."""

    model: str
    condition_id: str
    clean: tuple[str, ...]
    perturbed: tuple[str, ...]
    samples: str
    condition: str = ""


@dataclass(frozen=True)
class Plan:
    """All jobs by digest in the order they were planned (inputs before those that need them), and all cells.

    places  digest of a file that the plan was made from -> its path on this disk
    """

    name: str
    grid: Mapping[str, Any]
    jobs: Mapping[str, Job]
    cells: tuple[Cell, ...]
    samples: tuple[Sample, ...]
    previews: tuple[Preview, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict, repr=False)
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    keep: str = "outputs"
    file: str = ""
    comparisons: tuple[Sample, ...] = ()
    overrides: tuple[str, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The jobs whose results are the result: all others run only if one of these needs them."""
        found = [*(c.digest for c in self.cells), *(s.digest for s in (*self.samples, *self.comparisons))]
        return tuple(dict.fromkeys(found))

    def cost(self, digests: Sequence[str] | None = None) -> Counter[str]:
        """Summed expected evaluations and bytes of these jobs (default: all)."""
        total: Counter[str] = Counter()
        for digest in self.jobs if digests is None else digests:
            total.update(self.jobs[digest].cost)
        return total

    def to_json(self, provenance: Mapping[str, Any]) -> str:
        """plan.json: provenance, the grid as resolved, every job with its recipe in clear, every cell."""
        return json.dumps(
            {
                "schema_version": PLAN_VERSION,
                "name": self.name,
                "file": self.file,
                "overrides": self.overrides,
                "provenance": provenance,
                "grid": self.grid,
                "notes": self.notes,
                "keep": self.keep,
                "cost": dict(self.cost()),
                "jobs": [vars(job) for job in self.jobs.values()],
                "cells": [vars(cell) for cell in self.cells],
            },
            indent=None,
            default=str,
        )
