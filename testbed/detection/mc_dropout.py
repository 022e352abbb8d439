"""Monte-Carlo dropout (Gal & Ghahramani, ICML 2016): disagreement between passes with dropout switched on.

Only the dropout modules are put into training mode. Over `samples` passes with predictions p_s and mean p:

    mean                1 - max_c p_c
    variance            mean over classes of the variance of p_s
    mutual_information  H(p) - mean_s H(p_s)

The masks come from torch's generator, seeded by the ids of the batch, so they do depend on how examples are batched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Ge

from testbed.detection.base import State, require
from testbed.detection.network import Network, NetworkDetector
from testbed.errors import DataError
from testbed.parameters import Seed
from testbed.seeding import shard_seed
from testbed.types import Float64, Ints, Paper


@dataclass(frozen=True)
class MCDropout(NetworkDetector):
    """Uncertainty over dropout masks; consumes inputs, nothing to fit, `samples` passes an example.

    samples  passes
    measure  what is made of them, see the module
    seed     of the masks
    """

    samples: Annotated[int, Ge(2)] = 30
    measure: Literal["mean", "variance", "mutual_information"] = "mean"
    seed: Seed = 0

    passes: ClassVar[Mapping[str, int]] = {"forward": 30, "gradient": 0}
    reference: ClassVar[Paper] = Paper(
        "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning",
        "Yarin Gal, Zoubin Ghahramani", 2016, "ICML", "1506.02142",
    )  # fmt: skip

    def __post_init__(self) -> None:
        require(self.samples >= 2, "mc_dropout.samples", "at least 2", self.samples)

    def passes_of(self) -> Mapping[str, int]:
        """As many passes as samples."""
        return {"forward": self.samples, "gradient": 0}

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        import torch

        kinds = (torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d, torch.nn.AlphaDropout)
        dropouts = [m for m in network.module.modules() if isinstance(m, kinds)]
        if not dropouts:
            raise DataError("mc_dropout: this network has no dropout module, so all its passes would be the same")
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(shard_seed("mc_dropout", 1, self.seed, ids))
            for module in dropouts:
                module.train()
            try:
                passes = [network.logits(x).double().softmax(dim=1).cpu().numpy() for _ in range(self.samples)]
            finally:
                for module in dropouts:
                    module.eval()
        return spread(np.stack(passes), self.measure)


def spread(probs: Float64, measure: str) -> Float64:
    """float64 `[n]` from probabilities `[samples n k]`.

    >>> spread(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), "mutual_information").round(6).tolist()
    [0.693147]
    """
    mean = probs.mean(axis=0)
    if measure == "mean":
        return np.asarray(1.0 - mean.max(axis=1))
    if measure == "variance":
        return np.asarray(probs.var(axis=0, ddof=1).mean(axis=1))
    return np.asarray(entropy(mean) - entropy(probs).mean(axis=0))


def entropy(probs: Float64) -> Float64:
    """-sum p log p over the last axis, 0 log 0 = 0."""
    terms: Float64 = np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1.0)), 0.0)
    total: Float64 = terms.sum(axis=-1)
    return -total
