"""CFOOD: the concentration-free outlier factor on unit features, as OpenOOD scores it.

Every bank example i has a ball that reaches to its (kappa m)-th nearest of the m bank examples. Score of x: the
smallest share kappa (of a grid of 230 from 0.001 to 0.99) at which at least a share k of the balls hold x; 1 where none
does. The factor is Angiulli's CFOF, which the curse of dimensionality does not flatten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.collect import Covered
from testbed.detection.numeric import unit_rows
from testbed.detection.sampling import random_rows
from testbed.detection.similarity import Need, answers
from testbed.errors import DataError
from testbed.metrics.ood import hits_needed
from testbed.parameters import OpenShare, PositiveShare, Seed
from testbed.types import Array, Float64, Ints, Outputs, Paper

GRID: Final = np.concatenate([np.linspace(0.001, 0.1, 100), np.linspace(0.105, 0.5, 81), np.linspace(0.51, 0.99, 49)])


@dataclass(frozen=True)
class CFOOD(Detector):
    """Smallest neighbourhood share at which x is covered, in (0, 1]; consumes features, fitted on training outputs.

    alpha  share of the training set that makes the bank, drawn per example id, in (0, 1]
    k      share of the bank's balls that must hold x, in (0, 1)
    seed   of the draw of the bank
    """

    alpha: PositiveShare = 0.1
    k: OpenShare = 0.01
    seed: Seed = 0

    consumes = ("features",)
    fitted_on = "train"
    reference: ClassVar[Paper] = Paper(
        "CFOF: A Concentration Free Measure for Anomaly Detection", "Fabrizio Angiulli", 2020, "ACM TKDD", "1901.04992"
    )

    def __post_init__(self) -> None:
        require(0 < self.alpha <= 1, "cfood.alpha", "a number in (0, 1]", self.alpha)
        require(0 < self.k < 1, "cfood.k", "a number in (0, 1)", self.k)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The bank `[m d]`, the shares `[levels]` and the squared radii `[levels, m]`."""
        count = int(self.alpha * len(outputs)) if self.alpha < 1 else len(outputs)
        if count < 2:
            raise DataError(
                f"cfood: alpha = {self.alpha:g} of {len(outputs)} rows leaves a bank of {count}; expected 2 or more"
            )
        bank = np.asarray(outputs.take(random_rows("cfood", self.seed, outputs, count)).features)
        places, shares = levels(count)
        return {"bank": bank, "shares": shares, "radii": squared_radii(unit_rows(bank), places)}

    def need(self, outputs: Outputs) -> Need:
        """The levels of coverage, for a pass that others share."""
        return self._need(self._fitted(), np.asarray(outputs.features))

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The share at the level of coverage, 1 beyond the last."""
        features = np.asarray(outputs.features)
        same_width(features, state["bank"].shape[1], "cfood")
        level = answers([self._need(state, features)])[0]
        shares: Float64 = np.append(state["shares"], 1.0)[level]
        return shares

    def _need(self, state: State, features: Array) -> Need:
        return Need(state["bank"], features, Covered(state["radii"], hits_needed(len(state["bank"]), self.k)))


def levels(count: int) -> tuple[Ints, Float64]:
    """Positions (0 = the nearest other) and shares of the grid that differ for a bank of this size.

    >>> levels(5)[0].tolist(), levels(5)[1].round(3).tolist()
    ([0, 1, 2, 3], [0.001, 0.401, 0.6, 0.8])
    """
    places = (GRID * count - 1).astype(np.int64)
    fresh = np.r_[True, places[1:] > places[:-1]]
    return places[fresh], GRID[fresh]


def squared_radii(bank: Float64, places: Ints, block: int = 256) -> Float64:
    """Squared distance of each bank row to its places-th nearest other row, float64 `[levels, m]`."""
    own = np.einsum("nd,nd->n", bank, bank)
    radii = np.empty((len(places), len(bank)))
    for start in range(0, len(bank), block):
        rows = slice(start, start + block)
        squares = own[rows, None] + own - 2.0 * (bank[rows] @ bank.T)
        np.fill_diagonal(squares[:, start:], -1.0)
        squares.sort(axis=1)
        radii[:, rows] = np.maximum(squares[:, places + 1], 0.0).T
    return radii
