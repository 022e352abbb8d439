"""Reference values of drift tests from alibi-detect 0.13.0 (PyTorch backend), as tests/golden/drift_alibi.json.

    python tests/golden/make_drift_alibi.py        # in an environment that has alibi-detect

alibi-detect imports transformers, which none of these tests needs; a stand-in is enough where it is not installed.
"""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np

if find_spec("transformers") is None:
    stand_in = ModuleType("transformers")
    for name in ("AutoModel", "AutoConfig", "AutoTokenizer", "PreTrainedTokenizerBase"):
        setattr(stand_in, name, object)
    sys.modules["transformers"] = stand_in


def outputs(n, seed, mean):
    """Probabilities `[n, 3]` of drawn logits, the first one moved by `mean`; the tests draw the same."""
    z = np.random.default_rng(seed).normal(size=(n, 3))
    z[:, 0] += mean
    e = np.exp(2 * z)
    return e / e.sum(axis=1, keepdims=True)


def measured(mean):
    """Statistic and p-value of each test for one change of the mean."""
    from alibi_detect.cd import ChiSquareDrift, KSDrift, MMDDrift

    reference, window = outputs(80, 0, 0.0), outputs(60, 1, mean)
    both = np.concatenate([reference, window])
    square = ((both[:, None] - both[None]) ** 2).sum(axis=2)
    sigma = np.sqrt(np.median(square[np.triu_indices(len(both), 1)]) / 2)
    ks = KSDrift(reference, p_val=0.05, correction="bonferroni").predict(window, return_p_val=True)["data"]
    labels = [p.argmax(axis=1)[:, None] for p in (reference, window)]
    chi = ChiSquareDrift(labels[0], p_val=0.05).predict(labels[1], return_p_val=True)["data"]
    mmd = MMDDrift(reference, backend="pytorch", sigma=np.array([sigma]), n_permutations=2000, device="cpu")
    found = mmd.predict(window, return_p_val=True)["data"]
    return {
        "ks": [float(v) for v in ks["distance"]],
        "ks_p": [float(v) for v in ks["p_val"]],
        "chi": float(chi["distance"][0]),
        "chi_p": float(chi["p_val"][0]),
        "mmd": float(found["distance"]),
        "mmd_p": float(found["p_val"]),
    }


if __name__ == "__main__":
    values = {str(mean): measured(mean) for mean in (0.0, 0.3, 0.8)}
    Path(__file__).with_name("drift_alibi.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
