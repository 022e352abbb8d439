"""Numbers that something speaks against: the one place that says which they are and how every view marks them.

A number is doubted where one of its flags is among `DOUBTS`: an audit says that the attack may have found less than
there is, the fit of the calibrator does not mean what it should, the model's outputs are not what they are read as, or
a plug-in read what it did not declare. Other flags (`audit:pass`, what was tuned, how an interval was made) are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: Stands after a number that something speaks against.
DOUBT: Final = "†"

#: What a view that holds a marked number says below.
NOTE: Final = (
    f"{DOUBT} something speaks against this number: a failed audit of the attack (a robust number may be too good), "
    "the fit of the calibrator, or the outputs of the model; its flags say what, and `testbed query` has them"
)

#: Flag, or its beginning -> what it says of the number.
DOUBTS: Final[Mapping[str, str]] = {
    "audit:fail": "an audit of the attack failed: the number may be too good",
    "fit:at_bound": "the calibrator stopped at the end of what it searches",
    "fit:not_converged": "the calibrator did not converge",
    "fit:one_class": "the calibrator was fitted on one class",
    "fit:worse_than_uncalibrated": "held out, the calibrator is worse than none",
    "softmax_as_logits": "the model gives probabilities where logits are read",
    "random_weights": "the model has random weights",
    "at_chance": "on clean data the model is no better than a blind guess",
    "no_answer": "some outputs are NaN or infinite and count as wrong",
    "undeclared_read": "a plug-in read what it does not declare, so the number cannot be had again for sure",
    "estimate-failed": "the estimate is off by more than its tolerance",
}


def doubts(row: Mapping[str, Any]) -> list[str]:
    """What speaks against a row's number, in words; nothing where it has none.

    >>> doubts({"value": 0.4, "flags": "audit:fail(transfer);tuned:k=5"})
    ['an audit of the attack failed: the number may be too good']
    """
    if row.get("value") is None or row.get("metric") == "audit":
        return []
    flags = str(row.get("flags") or "").split(";")
    return [words for begin, words in DOUBTS.items() if any(flag.startswith(begin) for flag in flags)]


def doubted(row: Mapping[str, Any]) -> bool:
    """Whether something speaks against a row's number.

    >>> doubted({"value": 0.4, "flags": "fit:at_bound"}), doubted({"value": 0.4, "flags": "audit:pass"})
    (True, False)
    """
    return bool(doubts(row))


def marked(text: str, doubt: bool) -> str:
    """The text of a number, with its mark where it is doubted.

    >>> marked("0.400", True), marked("0.400", False)
    ('0.400 †', '0.400')
    """
    return f"{text} {DOUBT}" if doubt else text
