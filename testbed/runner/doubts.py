"""What the outputs of a model say against it as a whole, as flags of all of its rows.

softmax_as_logits   its logits are probabilities, so every number that reads logits is another one than it says
at_chance           on clean data it cannot be told from a blind guess: the interval of its accuracy reaches down to
                    the share of the most frequent class, or 1/k. Random weights, shuffled labels, wrong scale of
                    inputs, classes in another order: whatever the cause
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.grid.plan import Cell

Key = tuple[Any, ...]


def model_key(row: Mapping[str, Any]) -> Key:
    """What names one trained model on one data set."""
    return tuple(row.get(name) for name in ("dataset", "seed", "model", "train_seed"))


def model_flags(
    cells: Sequence[Cell], manifests: Mapping[str, Any], tables: Mapping[str, list[dict[str, Any]]]
) -> dict[Key, str]:
    """For each model the flags that all of its rows get; a mean over training seeds has those of all of its runs."""
    found: dict[Key, dict[str, None]] = {}
    for cell in cells:
        if cell.digest not in manifests:
            continue
        meta = manifests[cell.digest].meta
        if meta.get("softmax_as_logits"):
            found.setdefault(model_key(cell.row), {})["softmax_as_logits"] = None
        if cell.row["metric"] == "accuracy" and cell.row.get("kind") == "clean" and "chance" in meta:
            rows = [one for one in tables.get(cell.digest, ()) if one["position"] == cell.metric]
            if any(at_chance(one, meta["chance"]) for one in rows):
                found.setdefault(model_key(cell.row), {})["at_chance"] = None
    for key, flags in list(found.items()):
        found.setdefault((*key[:-1], None), {}).update(flags)
    return {key: ";".join(sorted(flags)) for key, flags in found.items()}


def at_chance(row: Mapping[str, Any], chance: float) -> bool:
    """Whether the interval of an accuracy on the whole set reaches down to that of a blind guess.

    >>> at_chance({"ci_low": 0.24, "value": 0.3}, 0.25), at_chance({"ci_low": 0.5, "value": 0.6}, 0.25)
    (True, False)
    """
    low = row.get("ci_low")
    return not row.get("group") and low is not None and low <= chance
