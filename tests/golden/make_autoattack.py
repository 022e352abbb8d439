"""What pyautoattack 0.2.0 finds on a small net from given starts: tests/golden/autoattack.npz.

    pip install --no-deps --target DIR pyautoattack==0.2.0; PYTHONPATH=DIR python tests/golden/make_autoattack.py

Its runs from a given start draw nothing, so they can be followed step for step: APGD in three norms (l1 over its three
balls), FAB targeted (the closest of three targets) and untargeted.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted
from pyautoattack.fab_pt import FABAttack_PT

FILE = Path(__file__).parent / "autoattack.npz"
EPS = {"linf": 0.09, "l2": 0.45, "l1": 1.2}
N, SHAPE, CLASSES, HIDDEN = 48, (1, 6, 6), 5, 24


def net(first: torch.Tensor, last: torch.Tensor) -> torch.nn.Module:
    """A tanh net with these weights."""
    model = torch.nn.Sequential(
        torch.nn.Flatten(),
        torch.nn.Linear(math.prod(SHAPE), HIDDEN, bias=False),
        torch.nn.Tanh(),
        torch.nn.Linear(HIDDEN, CLASSES, bias=False),
    )
    model[1].weight.data, model[3].weight.data = first, last
    return model.eval()


def main() -> None:
    """Run the reference and write the file."""
    torch.manual_seed(11)
    first, last = torch.randn(HIDDEN, math.prod(SHAPE)) / 3, torch.randn(CLASSES, HIDDEN)
    model, x = net(first, last), torch.rand(N, *SHAPE)
    y = model(x).argmax(1)
    noise = {"linf": 2 * torch.rand(x.shape) - 1, "l2": torch.randn(x.shape), "l1": torch.randn(x.shape)}
    out = {"first": first, "last": last, "x": x, "y": y, **{f"noise_{norm}": noise[norm] for norm in noise}}
    for norm, eps in EPS.items():
        shared = {"eps": eps, "norm": norm.capitalize(), "device": "cpu", "seed": 0}
        for loss in ("ce", "dlr", "targeted"):
            attack = (
                APGDAttack_targeted(model, n_iter=100, **shared)
                if loss == "targeted"
                else APGDAttack(model, n_iter=100, loss=loss, **shared)
            )
            attack.init_hyperparam(x)
            attack.y_target = model(x).sort(dim=1)[1][:, -2]
            if norm == "l1":
                torch.manual_seed(5)
                out["noise_l1"] = torch.randn_like(x)
                torch.manual_seed(5)
                found = attack.decr_eps_pgd(x, y, [3 * eps, 2 * eps, eps], [30, 30, 40])
            else:
                start = x + eps * attack.normalize(noise[norm])
                found = attack.attack_single_run(x, y, x_init=start)
            out[f"apgd_{loss}_{norm}_standing"] = found[1]
            out[f"apgd_{loss}_{norm}_loss"] = found[2]
        fab = FABAttack_PT(model, n_restarts=1, n_iter=100, targeted=True, **shared)
        distances = []
        for target in (2, 3, 4):
            fab.target_class = target
            distances.append(length(fab.attack_single_run(x, y, is_targeted=True) - x, norm))
        out[f"fab_t_{norm}"] = torch.stack(distances).where(torch.stack(distances) > 0, torch.inf).amin(0)
        out[f"fab_{norm}"] = length(fab.attack_single_run(x, y, is_targeted=False) - x, norm)
    np.savez_compressed(FILE, **{name: value.detach().numpy() for name, value in out.items()})
    print(f"{FILE}: {FILE.stat().st_size} bytes")


def length(delta: torch.Tensor, norm: str) -> torch.Tensor:
    """The norm of each row."""
    order = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[norm]
    return torch.linalg.vector_norm(delta.flatten(1), ord=order, dim=1)


if __name__ == "__main__":
    main()
