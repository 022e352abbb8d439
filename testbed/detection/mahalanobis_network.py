"""The two parts of Lee et al. (NeurIPS 2018) that need passes: the input step, and distances at several layers.

mahalanobis_odin    x' = x - eps sign(grad_x d(x)), score d(x'), d the squared distance of the penultimate
                    features to the nearest class mean (as `mahalanobis`)
mahalanobis_layers  sum over layers of weight_l d_l(x), d_l on the spatial means of the map of layer l; the paper
                    fits the weights by logistic regression on OOD data, here they are given (equal by default)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from testbed.detection.base import State, require
from testbed.detection.differentiable import torch_score
from testbed.detection.gaussian import squared_distances
from testbed.detection.mahalanobis import Mahalanobis
from testbed.detection.network import Network, NetworkDetector, features_of, map_hooks, map_layers, step_down
from testbed.errors import DataError
from testbed.parameters import NonNegative, ShareBelowOne
from testbed.types import Float64, Ints, Outputs, Paper


@dataclass(frozen=True)
class MahalanobisODIN(NetworkDetector):
    """min_c of the squared distance after an input step; consumes inputs, fitted on labelled training inputs.

    eps    size of the step, in units of the input in [0, 1]; published default 0.0014
    rcond  directions with at most this share of the largest variance are left out
    """

    eps: NonNegative = 0.0014
    rcond: ShareBelowOne = 1e-10

    fitted_on = "train"
    labelled = True
    passes: ClassVar[Mapping[str, int]] = {"forward": 2, "gradient": 1}
    reference: ClassVar[Paper] = Mahalanobis.reference

    def __post_init__(self) -> None:
        require(self.eps >= 0, "mahalanobis_odin.eps", "a number >= 0", self.eps)

    def learn_network(self, network: Network, x: Any, labels: Ints | None, batch: int) -> dict[str, Any]:
        """As Mahalanobis, on the features of these inputs."""
        import torch

        parts = []
        with torch.no_grad():
            for start in range(0, len(x), batch):
                parts.append(
                    [t.cpu().numpy() for t in features_of(network, x[start : start + batch], "mahalanobis_odin")]
                )
        logits, features = (np.concatenate(side) for side in zip(*parts, strict=True))
        return Mahalanobis(self.rcond).learn(Outputs(logits, features, labels))

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        import torch

        distance = torch_score(Mahalanobis(self.rcond).restore(state))
        moved = step_down(x, lambda z: distance(*features_of(network, z, "mahalanobis_odin")), self.eps)
        with torch.no_grad():
            scores: Float64 = distance(*features_of(network, moved, "mahalanobis_odin")).cpu().numpy()
        return scores


@dataclass(frozen=True)
class MahalanobisLayers(NetworkDetector):
    """Weighted sum of squared distances at several layers; consumes inputs, fitted on labelled training inputs.

    layers   names of modules that give maps; () = all direct children that do
    weights  one a layer; () = 1 each
    rcond    as Mahalanobis
    """

    layers: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    rcond: ShareBelowOne = 1e-10

    fitted_on = "train"
    labelled = True
    reference: ClassVar[Paper] = Mahalanobis.reference

    def learn_network(self, network: Network, x: Any, labels: Ints | None, batch: int) -> dict[str, Any]:
        """Means and whitening of each layer, and the layers' names."""
        layers = list(self.layers) or children(network, x)
        if self.weights and len(self.weights) != len(layers):
            raise DataError(f"mahalanobis_layers: {len(self.weights)} weights for {len(layers)} layers {layers}")
        assert labels is not None
        logits = np.zeros((1, int(labels.max()) + 1))
        state: dict[str, Any] = {"layers": "\n".join(layers)}
        for i, means in enumerate(spatial_means(network, x, layers, batch)):
            data = Outputs(np.broadcast_to(logits, (len(x), logits.shape[1])), means, labels)
            state |= {f"{key}{i}": value for key, value in Mahalanobis(self.rcond).learn(data).items()}
        return state

    def judge(self, state: State, network: Network, x: Any, ids: Ints) -> Float64:
        """Scores of one batch."""
        layers = state["layers"].split("\n")
        total = np.zeros(len(x))
        weights = self.weights or (1.0,) * len(layers)
        for i, means in enumerate(spatial_means(network, x, layers, len(x))):
            total += weights[i] * squared_distances(means, state[f"means{i}"], state[f"whitening{i}"]).min(axis=1)
        return total


def children(network: Network, x: Any) -> list[str]:
    """The map layers that are direct children of the network; all map layers where none is."""
    names = map_layers(network, x)
    return [name for name in names if "." not in name] or names


def spatial_means(network: Network, x: Any, layers: list[str], batch: int) -> list[Float64]:
    """Mean over space of each layer's map, float64 `[n c]` a layer."""
    import torch

    found: dict[str, list[Float64]] = {name: [] for name in layers}

    def note(name: str, output: Any) -> None:
        found[name].append(output.double().flatten(2).mean(dim=2).cpu().numpy())

    with torch.no_grad(), map_hooks(network.module, layers, note):
        for start in range(0, len(x), batch):
            network.logits(x[start : start + batch])
    return [np.concatenate(found[name]) for name in layers]
