"""RankFeat (Song, Sebe & Wang, NeurIPS 2022): energy after removing the rank-1 part of a high-level map.

The map `[c, h w]` of one example loses s_1 u_1 v_1', its leading singular triple; the rest of the network runs on what
is left, and the score is its energy -logsumexp(f).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from testbed.detection.base import State
from testbed.detection.network import Network, NetworkDetector, map_hooks, map_layers
from testbed.detection.numeric import logsumexp
from testbed.types import Float64, Ints, Paper


@dataclass(frozen=True)
class RankFeat(NetworkDetector):
    """Energy without the map's leading singular triple; consumes inputs, nothing to fit, one pass.

    layer  name of the module whose map is changed; "" = the last one that gives a map with more than one position
    """

    layer: str = ""

    reference: ClassVar[Paper] = Paper(
        "RankFeat: Rank-1 Feature Removal for Out-of-distribution Detection", "Yue Song, Nicu Sebe, Wei Wang",
        2022, "NeurIPS", "2209.08590",
    )  # fmt: skip

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        import torch

        layer = self.layer or map_layers(network, x)[-1]
        with torch.no_grad(), map_hooks(network.module, [layer], lambda _, output: without_rank_one(output)):
            logits = network.logits(x).double().cpu().numpy()
        return -logsumexp(logits)


def without_rank_one(maps: Any) -> Any:
    """Maps `[n c h w]` less their leading singular triple, example by example (decomposed in float64)."""
    import torch

    flat = maps.flatten(2).double()
    left, values, right = torch.linalg.svd(flat, full_matrices=False)
    first = values[:, :1, None] * left[:, :, :1] @ right[:, :1, :]
    return (flat - first).reshape(maps.shape).to(maps.dtype)
