"""Nets, images and meters of the attack benchmarks.

Nets are those of TESTBED_DATA (`kw_fashion`, `resnet20`, ...), and two that are trained here by the recipe fgsm-rs
(Wong et al. 2020, eps 0.3) and kept in the folder for saved runs: `fgsm_rs` on the 60,000 MNIST images as in the paper
and `fgsm_rs_4000` on the first 4,000, on which small steps overstate its robustness by far. The seed is 3, with which
the former holds: of nine networks by that recipe, four overfitted to their single step.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import testbed
from testbed.data.idx import read_idx
from testbed.models import weights, zoo
from testbed.models.train import train
from testbed.types import Examples, Spec

DATA = Path(os.environ.get("TESTBED_DATA", "data"))
GREY, COLOUR = Spec("image", (28, 28, 1), 10), Spec("image", (32, 32, 3), 10)


@dataclass(frozen=True)
class Trained:
    """A net trained here by fgsm-rs: images, batch, epochs."""

    images: int
    batch: int
    epochs: int


@dataclass(frozen=True)
class Subject:
    """A net, its test images and the budgets it is attacked with."""

    plugin: Any
    data: str
    weights: str | Trained
    linf: float
    l2: float
    l1: float

    @property
    def spec(self) -> Spec:
        """Shape and classes of its images."""
        return COLOUR if self.data == "cifar10" else GREY


NETS = {
    "kw": Subject(zoo.SmallCnn(), "mnist", "mnist_kw_small_eps0.1", 0.1, 1.0, 6.0),
    "kw_fashion": Subject(zoo.SmallCnn(), "fashion-mnist", "fashion_mnist_kw_small_eps0.1", 0.1, 1.0, 6.0),
    "kw_scaled": Subject(zoo.SmallCnn(), "mnist", "mnist_kw_scaled_small_eps0.3", 0.3, 1.5, 10.0),
    "cnn_a": Subject(zoo.SmallCnn(), "mnist", "mnist_cnn_a_adv", 0.3, 1.5, 10.0),
    "fgsm_rs": Subject(zoo.SmallCnn(), "mnist", Trained(60_000, 100, 10), 0.3, 1.5, 10.0),
    "fgsm_rs_4000": Subject(zoo.SmallCnn(), "mnist", Trained(4_000, 50, 20), 0.3, 1.5, 10.0),
    "resnet2b": Subject(zoo.CrownResNet("2b"), "cifar10", "cifar10_resnet2b_adv_eps2", 2 / 255, 0.25, 4.0),
    "resnet4b": Subject(zoo.CrownResNet("4b"), "cifar10", "cifar10_resnet4b_adv_eps2", 2 / 255, 0.25, 4.0),
    **{
        name: Subject(zoo.SmallCnn(normalise="cifar10_63"), "cifar10", f"cifar10_{name}", 2 / 255, 0.25, 4.0)
        for name in ("cnn_a_adv", "cnn_a_adv4", "cnn_a_mix4")
    },
    "resnet20": Subject(zoo.CifarResNet(20), "cifar10", "resnet20_cifar10", 2 / 255, 0.25, 4.0),
}


def images(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """All test images `[n c h w]` and labels `[n]`."""
    if subject.data == "cifar10":
        with np.load(DATA / "cifar10" / "cifar10_test_first1017.npz") as arrays:
            x, y = arrays["images"].transpose(0, 3, 1, 2), arrays["labels"]
    else:
        x = read_idx(DATA / subject.data / "t10k-images-idx3-ubyte.gz")[:, None]
        y = read_idx(DATA / subject.data / "t10k-labels-idx1-ubyte.gz")
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32) / 255), torch.from_numpy(y.astype(np.int64))


def net(name: str, saved: Path | None) -> torch.nn.Module:
    """The net in evaluation mode."""
    subject = NETS[name]
    module: torch.nn.Module = subject.plugin.build(subject.spec)
    if isinstance(subject.weights, str):
        file = DATA / "weights" / f"{subject.weights}.safetensors"
        weights.load(module, file, getattr(subject.plugin, "key_map", None))
    else:
        module.load_state_dict(_trained(subject, subject.weights, saved and saved / f"{name}.safetensors"))
    return module.eval()


def _trained(subject: Subject, by: Trained, file: Path | None) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file, save_file

    if file is not None and file.is_file():
        return dict(load_file(file))
    x = read_idx(DATA / subject.data / "train-images-idx3-ubyte.gz")[..., None]
    y = read_idx(DATA / subject.data / "train-labels-idx1-ubyte.gz").astype(np.int64)
    examples = Examples(x[: by.images], y[: by.images], np.arange(by.images), subject.spec)
    recipe = {"eps": subject.linf, "lr": 5e-3, "batch_size": by.batch}
    state = train("fgsm_rs", recipe, subject.plugin.build, examples, seed=3, epochs=by.epochs)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, file)
    return state


def load(name: str, n: int | None, saved: Path | None) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """The net and n test images drawn at random (always the same ones); all of them where n is None."""
    x, y = images(NETS[name])
    chosen = np.random.default_rng(5).permutation(len(x))[:n]
    x, y = x[chosen], y[chosen]
    return net(name, saved), x, y


def contested(module: torch.nn.Module, x: Any, y: Any, norm: str, eps: float, most: int) -> tuple[list[int], int]:
    """Positions of the first images whose verdict is in doubt, `most` at most, and how many were looked at.

    In doubt are those that 20 steps of APGD fool at 1.3 eps and do not fool at 0.8 eps. Nearly all differences between
    two runs lie there, and far fewer images need the whole budget.
    """
    found: list[int] = []
    for start in range(0, len(x), 250):
        at = slice(start, start + 250)
        screen = {"norm": norm, "steps": 20}
        low, high = (ours(module, x[at], y[at], "apgd", 0, eps=share * eps, **screen) for share in (0.8, 1.3))
        rows = [start + int(row) for row in np.nonzero(low & ~high)[0]]
        if len(found) + len(rows) >= most:
            rows = rows[: most - len(found)]
            return found + rows, rows[-1] + 1
        found += rows
    return found, len(x)


@dataclass
class Run:
    """What a run found and cost: CPU seconds, those inside the model, and evaluations of single examples."""

    robust: list[int] = field(default_factory=list)
    cpu: float = 0.0
    inside: float = 0.0
    forward: int = 0
    backward: int = 0

    @property
    def outside(self) -> float:
        """Share of the CPU time not spent in the model's forward or backward."""
        return (self.cpu - self.inside) / self.cpu

    @property
    def verdicts(self) -> np.ndarray[Any, Any]:
        """Robust or not, an example."""
        return np.array(self.robust, dtype=bool)


@contextmanager
def metered(module: torch.nn.Module) -> Iterator[Run]:
    """Time the model's forward passes and every backward pass while the block runs."""
    run, forward, grad, backward = Run(), module.forward, torch.autograd.grad, torch.Tensor.backward

    def timed(call: Callable[..., Any], kind: str, size: Callable[..., int]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            begin = time.process_time()
            out = call(*args, **kwargs)
            run.inside += time.process_time() - begin
            setattr(run, kind, getattr(run, kind) + size(*args))
            return out

        return wrapped

    last = [0]

    def batch(x: torch.Tensor, *_: Any) -> int:
        last[0] = len(x)
        return len(x)

    module.forward = timed(forward, "forward", batch)  # type: ignore[method-assign]
    torch.autograd.grad = timed(grad, "backward", lambda *_: last[0])
    torch.Tensor.backward = timed(backward, "backward", lambda *_: last[0])  # type: ignore[method-assign]
    begin = time.process_time()
    try:
        yield run
    finally:
        run.cpu = time.process_time() - begin
        module.forward, torch.autograd.grad = forward, grad  # type: ignore[method-assign]
        torch.Tensor.backward = backward  # type: ignore[method-assign]


def kept(file: Path | None, module: torch.nn.Module, attack: Callable[[], Any]) -> Run:
    """The run saved in `file`, or a new one, which is saved there."""

    def make() -> dict[str, Any]:
        with metered(module) as run:
            robust = attack()
        run.robust = [int(value) for value in robust]
        return asdict(run)

    return Run(**noted(file, make))


def noted(file: Path | None, make: Callable[[], Any]) -> Any:
    """Plain values saved in `file`, or made and saved there."""
    if file is not None and file.is_file():
        return json.loads(file.read_text())
    value = make()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    return value


def ours(module: torch.nn.Module, x: Any, y: Any, name: str, seed: int, **options: Any) -> Any:
    """Robust or not, an example, by the attack called `name`."""
    return ~testbed.attack(name, **options).run(module, x, y, seed=seed).success


def reference(
    module: torch.nn.Module,
    x: Any,
    y: Any,
    norm: str,
    eps: float,
    seed: int,
    batch: int = 250,
    version: str = "standard",
) -> Any:
    """Robust or not, an example, by pyautoattack."""
    from pyautoattack import AutoAttack

    logging.disable(logging.CRITICAL)
    attack = AutoAttack(model=module, norm=norm.capitalize(), eps=eps, version=version, device="cpu", seed=seed)
    out = attack.run_standard_evaluation(x, y, batch_size=batch)
    with torch.no_grad():
        return (module(out[0] if isinstance(out, tuple) else out).argmax(1) == y).numpy()
