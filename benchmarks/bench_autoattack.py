"""AutoAttack standard: verdicts and CPU time against pyautoattack 0.2.0, both run in turn in this process.

    TESTBED_DATA=... python benchmarks/bench_autoattack.py --nets kw,resnet2b --n 100 --seeds 2

A net a block. `robust` is the share of n random test images no stage fooled; `CPU` process time, one thread; `outside`
the part of it not spent in the model's forward or backward; `forward` and `backward` are example evaluations. `ours`
ends hopeless runs (see testbed_attacks.autoattack), `exhaustive` spends the reference's budget. The last line counts
verdicts that differ between ours and the reference, and among the reference's own seeds and batch sizes.

The reference is skipped where it is not importable:
    pip install --no-deps --target DIR pyautoattack==0.2.0; PYTHONPATH=DIR python benchmarks/bench_autoattack.py
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import testbed
from testbed.data.idx import read_idx
from testbed.models import weights, zoo
from testbed.types import Spec

DATA = Path(os.environ.get("TESTBED_DATA", "data"))
GREY, COLOUR = Spec("image", (28, 28, 1), 10), Spec("image", (32, 32, 3), 10)
#: name -> model plug-in, spec, weight file, linf eps, l2 eps
NETS: dict[str, tuple[Any, Spec, str, float, float]] = {
    "kw": (zoo.SmallCnn(), GREY, "mnist_kw_small_eps0.1", 0.1, 1.0),
    "cnn_a": (zoo.SmallCnn(), GREY, "mnist_cnn_a_adv", 0.3, 1.5),
    "resnet2b": (zoo.CrownResNet("2b"), COLOUR, "cifar10_resnet2b_adv_eps2", 2 / 255, 0.25),
    "resnet4b": (zoo.CrownResNet("4b"), COLOUR, "cifar10_resnet4b_adv_eps2", 2 / 255, 0.25),
    "resnet20": (zoo.CifarResNet(20), COLOUR, "resnet20_cifar10", 2 / 255, 0.25),
}


def load(name: str, n: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The net and n test images drawn at random (always the same ones)."""
    plugin, spec, file, _, _ = NETS[name]
    module = plugin.build(spec)
    weights.load(module, DATA / "weights" / f"{file}.safetensors", getattr(plugin, "key_map", None))
    if spec is GREY:
        x = read_idx(DATA / "mnist" / "t10k-images-idx3-ubyte.gz")[:, None]
        y = read_idx(DATA / "mnist" / "t10k-labels-idx1-ubyte.gz")
    else:
        with np.load(DATA / "cifar10" / "cifar10_test_first1017.npz") as arrays:
            x, y = arrays["images"].transpose(0, 3, 1, 2), arrays["labels"]
    chosen = np.sort(np.random.default_rng(5).permutation(len(x))[:n])
    images = np.ascontiguousarray(x[chosen], dtype=np.float32) / 255
    return module.eval(), torch.from_numpy(images), torch.from_numpy(y[chosen].astype(np.int64))


@dataclass
class Meter:
    """What a run cost: CPU seconds, those inside the model, and evaluations of single examples."""

    cpu: float = 0.0
    inside: float = 0.0
    evaluations: dict[str, int] = field(default_factory=lambda: {"forward": 0, "backward": 0})


@contextmanager
def metered(module: torch.nn.Module) -> Iterator[Meter]:
    """Time the model's forward passes and every backward pass while the block runs."""
    meter, forward, grad, backward = Meter(), module.forward, torch.autograd.grad, torch.Tensor.backward

    def timed(call: Callable[..., Any], kind: str, size: Callable[..., int]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            out = call(*args, **kwargs)
            meter.inside += time.process_time() - begin
            meter.evaluations[kind] += size(*args)
            return out

        return run

    last = [0]

    def batch(x: torch.Tensor, *_: Any) -> int:
        last[0] = len(x)
        return len(x)

    module.forward = timed(forward, "forward", batch)  # type: ignore[method-assign]
    torch.autograd.grad = timed(grad, "backward", lambda *_: last[0])
    torch.Tensor.backward = timed(backward, "backward", lambda *_: last[0])  # type: ignore[method-assign]
    begin = time.process_time()
    try:
        yield meter
    finally:
        meter.cpu = time.process_time() - begin
        module.forward, torch.autograd.grad = forward, grad  # type: ignore[method-assign]
        torch.Tensor.backward = backward  # type: ignore[method-assign]


def ours(module: torch.nn.Module, x: Any, y: Any, norm: str, eps: float, seed: int, **options: Any) -> Any:
    """Robust or not, an example."""
    return ~testbed.attack("autoattack", norm=norm, eps=eps, **options).run(module, x, y, seed=seed).success


def reference(module: torch.nn.Module, x: Any, y: Any, norm: str, eps: float, seed: int, batch: int = 250) -> Any:
    """Robust or not, an example, by pyautoattack."""
    from pyautoattack import AutoAttack

    logging.disable(logging.CRITICAL)
    name = {"linf": "Linf", "l2": "L2"}[norm]
    attack = AutoAttack(model=module, norm=name, eps=eps, version="standard", device="cpu", seed=seed)
    out = attack.run_standard_evaluation(x, y, batch_size=batch)
    with torch.no_grad():
        return (module(out[0] if isinstance(out, tuple) else out).argmax(1) == y).numpy()


def bench(name: str, n: int, norm: str, seeds: int, exhaustive: bool) -> None:
    """One net's block."""
    module, x, y = load(name, n)
    eps = NETS[name][3 if norm == "linf" else 4]
    runs: dict[str, Any] = {}
    base = None
    plan: list[tuple[str, Callable[[], Any]]] = []
    try:
        import pyautoattack  # noqa: F401

        plan += [(f"reference {s}", lambda s=s: reference(module, x, y, norm, eps, s)) for s in range(seeds)]
        plan += [("reference b50", lambda: reference(module, x, y, norm, eps, 0, 50))] if seeds > 1 else []
    except ModuleNotFoundError:
        print("pyautoattack is not installed: ours alone")
    plan += [(f"ours {s}", lambda s=s: ours(module, x, y, norm, eps, s)) for s in range(seeds)]
    plan += [("exhaustive 0", lambda: ours(module, x, y, norm, eps, 0, exhaustive=True))] if exhaustive else []
    heads = f"{'run':<14}{'robust':>8}{'CPU s':>9}{'ratio':>7}{'outside':>9}{'forward':>10}{'backward':>10}"
    print(f"\n{name}  {norm} {eps:.4g}  n={n}\n{heads}")
    for label, run in plan:
        with metered(module) as meter:
            runs[label] = run()
        base = base or meter.cpu
        print(
            f"{label:<14}{runs[label].mean():>8.4f}{meter.cpu:>9.2f}{meter.cpu / base:>7.2f}"
            f"{(meter.cpu - meter.inside) / meter.cpu:>9.1%}"
            f"{meter.evaluations['forward']:>10}{meter.evaluations['backward']:>10}",
            flush=True,
        )
    pairs = [(a, b, int((runs[a] != runs[b]).sum())) for i, a in enumerate(runs) for b in list(runs)[i + 1 :]]
    print("verdicts that differ: " + ", ".join(f"{a} / {b}: {d}" for a, b, d in pairs))


def main() -> None:
    """Parse the command line and print the blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="kw,cnn_a,resnet2b,resnet4b")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--norm", choices=["linf", "l2"], default="linf")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--exhaustive", action="store_true", help="also without ending hopeless runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.nets.split(","):
        bench(name, options.n, options.norm, options.seeds, options.exhaustive)


if __name__ == "__main__":
    main()
