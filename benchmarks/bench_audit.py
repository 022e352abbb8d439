"""What the full audit says of nets whose numbers must not be believed, and of nets whose numbers must.

    TESTBED_DATA=... python benchmarks/bench_audit.py --n 200 --saved FOLDER

On the scaled Kolter-Wong net PGD-40 leaves points that AutoAttack takes, so that number must be flagged, and that of
AutoAttack must not. A line a case: the robust accuracy that was audited, and the checks that failed with their numbers.
The masks stand before or behind a net of TESTBED_DATA; `fgsm_rs_4000` is trained here (see attack_subjects).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attack_subjects import NETS, load

import testbed
from testbed.perturb import audit

#: Case -> net, what is done to the input, what to the logits, attack with its parameters, must be flagged.
PGD = ("pgd", {"steps": 40, "step_size": 0.01})
CASES: dict[str, tuple[str, str, tuple[str, dict[str, Any]], bool]] = {
    "PGD-40 step .01 on fgsm_rs_4000": ("fgsm_rs_4000", "", PGD, True),
    "temperature .01, PGD-40": ("cnn_a", "temperature", ("pgd", {"steps": 40}), True),
    "quantised input, PGD-40": ("cnn_a", "quantised", ("pgd", {"steps": 40}), True),
    "randomised logits, PGD-40": ("cnn_a", "randomised", ("pgd", {"steps": 40}), True),
    "Kolter-Wong MNIST, PGD-40": ("kw", "", ("pgd", {"steps": 40}), False),
    "Kolter-Wong MNIST, AutoAttack": ("kw", "", ("autoattack", {}), False),
    "Kolter-Wong Fashion, PGD-40": ("kw_fashion", "", ("pgd", {"steps": 40}), False),
    "Kolter-Wong scaled, PGD-40": ("kw_scaled", "", ("pgd", {"steps": 40}), True),
    "Kolter-Wong scaled, AutoAttack": ("kw_scaled", "", ("autoattack", {}), False),
    "fgsm_rs_4000, AutoAttack": ("fgsm_rs_4000", "", ("autoattack", {}), False),
}
MASKS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "": (lambda x: x, lambda z: z),
    "temperature": (lambda x: x, lambda z: z / 0.01),
    "quantised": (lambda x: (x * 15).round() / 15, lambda z: z),
    "randomised": (lambda x: x, lambda z: z + 0.1 * torch.randn_like(z)),
}


class Masked(torch.nn.Module):
    """A net with a mask in front and behind."""

    def __init__(self, net: torch.nn.Module, mask: str) -> None:
        super().__init__()
        self.net = net
        self.before, self.behind = MASKS[mask]

    def forward(self, x: torch.Tensor) -> Any:
        """Logits of x."""
        return self.behind(self.net(self.before(x)))


def main() -> None:
    """Read the options and print a line a case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--saved", type=Path, default=None, help="folder of the nets trained here")
    parser.add_argument("--cases", default="", help="part of the names of the cases to run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for label, (name, mask, (attack, params), must_flag) in CASES.items():
        if options.cases not in label:
            continue
        torch.manual_seed(0)
        net, x, y = load(name, options.n, options.saved)
        model = Masked(net, mask).eval()
        handle = testbed.attack(attack, norm="linf", eps=NETS[name].linf, **params)
        result = handle.run(model, x, y)
        failed = [c for c in audit.full(handle, model, x, y, result=result) if not c.passed]
        said = ", ".join(f"{c.name} {c.value:.3f} > {c.limit:g}" for c in failed) or "pass"
        verdict = "as it must" if bool(failed) == must_flag else "NOT AS IT MUST"
        print(f"{label:<32} n={len(x)} robust {result.robust_accuracy:.3f}  {verdict}: {said}", flush=True)


if __name__ == "__main__":
    main()
