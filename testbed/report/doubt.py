"""Numbers that something speaks against: the one place that says which they are and how every view marks them.

Each flag of a row is one of three: it says how the number was made and is no doubt (`NO_DOUBT`), it is in the catalogue
(`DOUBTS`), or it is of a plug-in or newer than the catalogue: then it doubts the number in its own words, since a flag
that nobody knows must not look like none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

#: Stands after a number that something speaks against.
DOUBT: Final = "†"

#: Begins what a view that holds a marked number says below.
SAYS: Final = f"{DOUBT} something speaks against this number: "

#: Flag, without what follows "(" or "=" -> what it says of the number.
DOUBTS: Final[Mapping[str, str]] = {
    "audit:fail": "an audit of the attack failed, so the number may be too good",
    "fit:at_bound": "the calibrator stopped at the end of what it searches",
    "fit:not_converged": "the calibrator did not converge",
    "fit:one_class": "the calibrator was fitted on one class",
    "fit:absent_classes": "the calibrator was fitted without an example of some class",
    "fit:worse_than_uncalibrated": "held out, the calibrator is worse than none",
    "fit:looks_like_probs": "the calibrator was fitted on probabilities where it reads logits",
    "fitted_without": "the calibrator was fitted without the examples whose outputs are NaN or infinite",
    "softmax_as_logits": "the model gives probabilities where logits are read",
    "random_weights": "the model has random weights",
    "at_chance": "on clean data the model is no better than a blind guess",
    "no_answer": "some outputs are NaN or infinite and count as wrong",
    "id:nan": "some scores of the detector on the test set are NaN",
    "id:infinite": "some scores of the detector on the test set are infinite",
    "ood:nan": "some scores of the detector on the OOD set are NaN",
    "ood:infinite": "some scores of the detector on the OOD set are infinite",
    "undeclared_read": "a plug-in read what it does not declare, so the number cannot be had again for sure",
    "estimate-failed": "the estimate is off by more than its tolerance",
}

#: Beginnings of flags that say how a number was made, or where, and nothing against it.
NO_DOUBT: Final = (
    "audit:pass", "tuned:", "interval:", "external", "nondeterministic", "fit:not_cross_validated",
    "more than half stand",
)  # fmt: skip


def doubts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """What speaks against a row's number, a sentence each; nothing where the row has no number.

    >>> doubts({"value": 0.4, "flags": "audit:fail(transfer);tuned:k=5;my_flag"})
    ('an audit of the attack failed, so the number may be too good', 'my_flag')
    """
    if row.get("value") is None or row.get("metric") == "audit":
        return ()
    flags = [flag.strip() for flag in str(row.get("flags") or "").split(";")]
    said = (DOUBTS.get(re.split(r"[(=]", flag)[0], flag) for flag in flags if not flag.startswith(NO_DOUBT))
    return tuple(dict.fromkeys(filter(None, said)))


def marked(text: str, doubt: Iterable[str]) -> str:
    """The text of a number, with its mark where `doubts` says anything of it.

    >>> marked("0.400", ["the model has random weights"]), marked("0.400", [])
    ('0.400 †', '0.400')
    """
    return f"{text} {DOUBT}" if any(doubt) else text


def notes(shown: Iterable[Iterable[str]]) -> list[str]:
    """What a view says below, given the doubts of each number that it shows: one line, none where none is marked.

    >>> notes([(), ["the model has random weights"], ["the model has random weights"]])
    ['† something speaks against this number: the model has random weights']
    >>> notes([()])
    []
    """
    said = list(dict.fromkeys(words for one in shown for words in one))
    return [SAYS + "; or ".join(said)] if said else []
