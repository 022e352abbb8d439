"""Writes detection_pytorch_ood.npz: scores of pytorch-ood 0.4.0, in float64, on a small made-up classifier.

Not run by the suite. Needs pytorch-ood==0.4.0 and torchvision==0.28.0 (installed with --no-deps beside torch 2.13.0 for
CPU, whose torchvision cannot register its C++ operators; the empty module below lets it import without them):

    python tests/golden/make_detection_pytorch_ood.py

pytorch-ood casts to float32 with Tensor.float; here that name is bound to Tensor.double, so that what is compared are
formulas and not roundings. Every score is larger = more OOD.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np

sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")

import torch  # noqa: E402
from pytorch_ood import detector as po  # noqa: E402

torch.Tensor.float = torch.Tensor.double
torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)

N, M, D, K = 120, 60, 10, 4


def world() -> dict[str, np.ndarray]:
    """A bank `[N D]`, a query `[M D]`, a head, labels that are what the head predicts (all examples right)."""
    rng = np.random.default_rng(7)
    weight, bias = rng.normal(size=(K, D)), rng.normal(size=K)
    soft = lambda x: np.logaddexp(x, 0.0)  # positive and without ties, which top-k functions break differently
    bank = soft(0.8 * weight[rng.integers(0, K, N)] + rng.normal(size=(N, D)))
    query = soft(0.8 * weight[rng.integers(0, K, M)] * (np.arange(M) < M // 2)[:, None] + rng.normal(size=(M, D)))
    labels = (bank @ weight.T + bias).argmax(axis=1)
    return {"weight": weight, "bias": bias, "bank": bank, "query": query, "labels": labels}


def scores(w: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores of the query `[M]` by name."""
    weight, bias, bank, query, labels = (
        torch.from_numpy(w[name]) for name in ("weight", "bias", "bank", "query", "labels")
    )
    head = torch.nn.Linear(D, K)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    known, asked = head(bank).detach(), head(query).detach()
    maps, bank_maps = query[:, :, None, None], bank[:, :, None, None]
    on_map = lambda x: head(x.flatten(1)).detach()
    out = {
        "msp": po.MaxSoftmax.score(asked),
        "maxlogit": po.MaxLogit.score(asked),
        "energy": po.EnergyBased.score(asked),
        "energy_t2": po.EnergyBased.score(asked, t=2.0),
        "entropy": po.Entropy.score(asked),
        "gen": po.GEN.score(asked),
        "weighted_energy": po.WeightedEBO.score(asked, torch.tensor([1.0, 0.5, 2.0, -1.0])),
        "mcm": po.MCM(None, weight, temperature=0.5).predict_features(query),
        "klm": po.KLMatching(None).fit_logits(known, labels).predict_logits(asked),
        "openmax": po.OpenMax(None, tailsize=20, alpha=3).fit_logits(known, labels).predict_logits(asked),
        "mahalanobis": po.Mahalanobis(None).fit_features(bank, labels).predict_features(query),
        "rmds": po.RMD(None).fit_features(bank, labels).predict_features(query),
        "gmm": po.GMM(None).fit_features(bank, labels).predict_features(query),
        "knn": po.KNN(None, k=7).fit_features(bank, labels).predict_features(query),
        "vim": po.ViM(None, 5, weight, bias).fit_features(bank, labels).predict_features(query),
        "react": po.ReAct(None, on_map).fit_feature_maps(bank_maps, labels).predict_feature_maps(maps),
        "dice": po.DICE(None, weight, bias, 0.7).fit_features(bank, labels).predict_features(query),
        "scale": po.SCALE(None, on_map, percentile=0.65).predict_feature_maps(maps.clone()),
        "lts": po.LTS(None, head, p=0.2).predict_features(query),
        "she": po.SHE(None, head).fit_features(bank, labels).predict_features(query),
        "nnguide": po.NNGuide(None, head, k=10).fit_features(bank, labels).predict_features(query),
        "fdbd": po.fDBD(None, head).fit_features(bank).predict_features(query),
        "nci": po.NCI(None, head, alpha=0.01).fit_features(bank).predict_features(query),
        "pnml": po.PNML(None, head).fit_features(bank, labels).predict_features(query),
        "gradnorm": po.GradNorm(head, param_filter=lambda name: name == "weight").predict(query),
        "grad_uncertainty": po.GradUncertainty(head).predict(query),
    }
    for variant in "pbs":
        ash = po.ASH(None, on_map, variant=f"ash-{variant}", percentile=0.65)
        out[f"ash_{variant}"] = ash.predict_feature_maps(maps.clone())
    return {name: value.detach().numpy().astype(np.float64) for name, value in out.items()}


if __name__ == "__main__":
    inputs = world()
    results = {f"score_{name}": value for name, value in scores(inputs).items()}
    path = Path(__file__).with_name("detection_pytorch_ood.npz")
    np.savez_compressed(path, **inputs, **results)
    print(path, path.stat().st_size, "bytes;", len(results), "detectors")
