"""KNN on a bank of millions: an inverted file of faiss proposes, float64 distances decide.

The bank's unit features are dealt into `lists` cells by k-means (Sivic & Zisserman 2003; Johnson, Douze & Jegou 2019).
A query looks into its `probes` nearest cells, takes the `spare` x k best there, and the distance to the k-th of these,
computed in float64, is the score. It can only be too large: a neighbour in a cell that was not looked into is missed.
More probes miss less and cost more; a row whose cells hold fewer than k looks into all of them.

Beside `knn`, which is exact: for 50,000 rows that is fast enough, for a million this takes a small share of the time.
Needs the extra `faiss`: pip install faiss-cpu.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np

from testbed.detection.base import Detector, State, require, same_width
from testbed.detection.knn import KNN
from testbed.detection.numeric import unit_rows
from testbed.errors import DataError, MissingExtra
from testbed.parameters import Count, CountOrNone, Seed
from testbed.types import Array, Float64, Outputs, Paper

#: Bank rows that k-means looks at, per cell: more change nothing (faiss's own default).
TRAINED_ON: Final = 256
#: Query rows at a time, so that candidates stay small.
BLOCK: Final = 1024


@dataclass(frozen=True)
class KNNFaiss(Detector):
    """Distance to about the k-th nearest of the bank on the unit sphere; consumes features, fitted on training outputs.

    k       which neighbour, 1 = the nearest
    lists   cells; 0 = the square root of the bank's size
    probes  cells that a query looks into
    spare   candidates per neighbour that are ranked again in float64
    seed    of k-means
    """

    k: Count = 50
    lists: CountOrNone = 0
    probes: Count = 16
    spare: Count = 2
    seed: Seed = 0

    consumes = ("features",)
    fitted_on = "train"
    packages: ClassVar[tuple[str, ...]] = ("faiss-cpu",)
    reference: ClassVar[Paper] = KNN.reference

    def __post_init__(self) -> None:
        for name in ("k", "probes", "spare"):
            require(getattr(self, name) >= 1, f"knn_faiss.{name}", "at least 1", getattr(self, name))
        require(self.lists >= 0, "knn_faiss.lists", "0 or more", self.lists)

    def learn(self, outputs: Outputs) -> dict[str, Any]:
        """The inverted file as bytes, and the bank `[N d]` as it came."""
        faiss = library()
        bank = np.asarray(outputs.features)
        if len(bank) < self.k:
            raise DataError(f"knn_faiss: k = {self.k} neighbours asked for, the bank has {len(bank)} rows; lower k")
        lists = self.lists or max(1, round(len(bank) ** 0.5))
        if lists > len(bank):
            raise DataError(f"knn_faiss: {lists} lists for a bank of {len(bank)} rows; use fewer")
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(bank.shape[1]), bank.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.seed, index.cp.min_points_per_centroid = self.seed, 1
        index.cp.max_points_per_centroid = TRAINED_ON
        rows = unit_rows(bank).astype(np.float32)
        index.train(rows)
        index.add(rows)
        return {"bank": bank, "index": np.array(faiss.serialize_index(index))}

    def evaluate(self, state: State, outputs: Outputs) -> Float64:
        """The k-th smallest distance among the candidates."""
        faiss = library()
        features = np.asarray(outputs.features)
        same_width(features, state["bank"].shape[1], "knn_faiss")
        index = faiss.deserialize_index(np.array(state["index"]))
        query, bank = unit_rows(features), np.asarray(state["bank"])
        parts = [slice(start, start + BLOCK) for start in range(0, len(query), BLOCK)]
        return np.concatenate([self._distances(index, bank, query[part]) for part in parts])

    def _distances(self, index: Any, bank: Array, query: Float64) -> Float64:
        wanted = min(self.k * self.spare, len(bank))
        index.nprobe = min(self.probes, index.nlist)
        _, found = index.search(query.astype(np.float32), wanted)
        short = np.flatnonzero((found >= 0).sum(axis=1) < self.k)
        if len(short):
            index.nprobe = index.nlist
            found[short] = index.search(query[short].astype(np.float32), wanted)[1]
        out = np.empty(len(query))
        for row, (one, near) in enumerate(zip(query, found, strict=True)):
            gaps = unit_rows(bank[near[near >= 0]]) - one
            squares = np.einsum("nd,nd->n", gaps, gaps)
            out[row] = np.sqrt(np.partition(squares, self.k - 1)[self.k - 1])
        return out


def library() -> Any:
    """faiss, or MissingExtra with the pip line."""
    try:
        import faiss
    except ImportError:
        raise MissingExtra("faiss", "detector 'knn_faiss'", "faiss-cpu") from None
    return faiss
