"""How fast this machine is, in one number: CPU milliseconds of a training step of LeNet-5 on 64 images, one thread.

The minutes in a table's `needs.yaml` were measured where the probe took REFERENCE milliseconds; here they are longer or
shorter in proportion. That is exact for networks of convolutions and rough for the rest (attacks that sort, metrics).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

#: Milliseconds of the probe where the tables' minutes were measured.
REFERENCE: Final = 15.5
STEPS: Final = 20


def milliseconds() -> float:
    """The probe: CPU time of one step, the least of three rounds."""
    import torch
    from torch.nn import functional as F

    from testbed.models.nets.lenet import LeNet5

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net, x, y = LeNet5((1, 28, 28), 10, "uncertainty"), torch.rand(64, 1, 28, 28), torch.arange(64) % 10
            optimizer = torch.optim.Adam(net.parameters())
            rounds = []
            for _ in range(4):
                start = time.process_time()
                for _ in range(STEPS):
                    optimizer.zero_grad()
                    F.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                rounds.append(1000 * (time.process_time() - start) / STEPS)
    finally:
        torch.set_num_threads(threads)
    return min(rounds[1:])


def expected(minutes: float, probe: float, todo: Mapping[str, int], whole: Mapping[str, int]) -> tuple[float, float]:
    """Minutes of a full run on this machine, and of what is left: by the share of evaluations, a gradient as three.

    >>> work = {"forward": 100, "gradient": 100}
    >>> expected(10.0, 2 * REFERENCE, {"forward": 100, "gradient": 0}, work)
    (20.0, 5.0)
    """
    here = minutes * probe / REFERENCE
    left, all_of_it = (cost.get("forward", 0) + 3 * cost.get("gradient", 0) for cost in (todo, whole))
    return here, here * left / all_of_it if all_of_it else 0.0
