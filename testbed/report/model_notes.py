"""What the flags of a run's rows say of whole models, in sentences: on the page, and below the table of a terminal.

What the plan knew before (random weights) is among its own notes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Flag -> what it means for the numbers, and what to do.
SAYS: Final[Mapping[str, str]] = {
    "softmax_as_logits": "gives probabilities where logits are read, so calibration, NLL and detection are of another "
    "model: write `scores: probs` beside its `use`",
    "at_chance": "is on clean data no better than a blind guess: look at its weights, the scale of its inputs, and the "
    "order of its classes",
    "no_answer": "gives NaN or infinity for some examples, which count as wrong",
}


def model_notes(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line a model and flag.

    >>> model_notes([{"model": "net", "flags": "no_answer=3"}])
    ["model 'net' gives NaN or infinity for some examples, which count as wrong (no_answer)"]
    """
    found: dict[tuple[str, str], None] = {}
    for row in rows:
        for flag in str(row.get("flags") or "").split(";"):
            if (name := flag.partition("=")[0]) in SAYS and row.get("model"):
                found[(str(row["model"]), name)] = None
    return [f"model {model!r} {SAYS[name]} ({name})" for model, name in found]
