"""What a grid may ask for and most likely does not mean: notes of the plan, each with its line.

a model without `train` and `weights`    its weights are drawn at random, and its rows say `random_weights`
an eps as large as the box of inputs     every image is within reach of every other, as with eps 8 for 8/255
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from testbed.grid.reader import Where
from testbed.grid.resolved import ConditionEntry, ModelEntry, Resolved, Step

#: What stands in the code of a network that brings its own weights.
_BRINGS = re.compile(r"\bload|from_pretrained|pretrained|copy_\(|\.data\b|Parameter\(torch\.(tensor|eye|zeros|ones)")


def doubts(resolved: Resolved) -> Iterator[tuple[Where, str]]:
    """All of them, where they stand."""
    for i, model in enumerate(resolved.models):
        if random_weights(model):
            says = "has neither `train` nor `weights`, so it is evaluated with the random weights that its code draws"
            yield ("models", i), f"{model.name!r} {says}; its rows are flagged random_weights"
    for condition in (*resolved.conditions, *(o.condition for o in resolved.ood)):
        yield from too_wide(resolved, condition)


def random_weights(model: ModelEntry) -> bool:
    """Whether nothing in the grid, and nothing in a user's own code, says where a network's weights come from."""
    plugin, params = model.bound.plugin, model.bound.params
    if model.train is not None or model.weights is not None or plugin.facts["weights_from"] != "anywhere":
        return False
    if plugin.source is not None:
        return not _BRINGS.search(plugin.source)
    return not params.get("pretrained", bool(plugin.facts["packages"]))


def too_wide(resolved: Resolved, condition: ConditionEntry) -> Iterator[tuple[Where, str]]:
    """The attacks of a condition whose ball holds the whole box of inputs."""
    for step in condition.steps:
        if step.kind == "attack" and step.eps is not None and step.eps >= reach(resolved, step):
            meant = f"; did you mean {step.eps:g}/255?" if step.norm == "linf" and step.eps > 1 else ""
            says = f"eps {step.eps:g} in {step.norm} covers the whole box of inputs, [0, 1] in every feature"
            yield (*condition.where, "eps"), f"{says}, so any image may become any other{meant}"


def reach(resolved: Resolved, step: Step) -> float:
    """The largest distance between two inputs of the unit box, in the norm of the attack; infinite where unknown."""
    if step.norm == "linf":
        return 1.0
    sizes = [math.prod(data.spec.shape) for data in resolved.data if data.spec is not None]
    if not sizes:
        return math.inf
    return math.sqrt(max(sizes)) if step.norm == "l2" else float(max(sizes))
