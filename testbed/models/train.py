"""Training as a job: deterministic on a CPU, resumable from a checkpoint, both bit for bit.

Every random number of epoch e comes from torch's global generator seeded with a function of (recipe version, seed, e);
initial weights likewise. So a run that stops after an epoch and goes on later makes the same draws as one that does
not stop. The caller's generator state is put back. The checkpoint (safetensors: weights, optimiser state, epoch, digest
of everything that decides the result) is written after each epoch, atomically; one that belongs to another training is
refused. Bits are the same for one torch version, one CPU class and one number of threads; on a GPU they are not.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from testbed.digest import digest, digest_bytes
from testbed.errors import DataError, UsageError
from testbed.models import recipes, weights
from testbed.models.pool import Pool
from testbed.models.recipes.base import Recipe
from testbed.models.tensors import as_tensor
from testbed.seeding import shard_seed
from testbed.types import Examples, Spec

VERSION: Final = 1
#: The key of all random draws of training; a change of VERSION alone leaves them as they are.
DRAWS: Final = 1
State = dict[str, torch.Tensor]


def train(
    recipe_name: str,
    params: Mapping[str, Any],
    build: Callable[[Spec], nn.Module],
    examples: Examples | Sequence[Examples],
    *,
    seed: int,
    epochs: int,
    checkpoint: str | Path | None = None,
    device: str = "cpu",
    after_epoch: Callable[[int, float], None] | None = None,
) -> State:
    """The state dict (on the CPU) of the network that `build(spec)` gives, trained by the recipe.

    `examples` is a set, or its shards in id order, which may be memory maps. `checkpoint` is a file that is written
    after every epoch and gone on from if it is there; `after_epoch` is called with the number of finished epochs and
    the last epoch's mean loss. Raises DataError where the loss is not finite.
    """
    plugin = recipes.read(recipe_name)
    recipe: Recipe = plugin.build(**plugin.validate(params))
    pool = Pool([examples] if isinstance(examples, Examples) else examples)
    _check(pool, epochs)
    name = _identity(recipe_name, plugin.validate(params), pool, seed, epochs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shard_seed("train.init", DRAWS, seed, [0]))
        model = build(pool.spec).to(device)
        optimizer = _optimizer(recipe, model)
        file = None if checkpoint is None else Path(checkpoint)
        done = _resume(file, name, model, optimizer) if file is not None and file.is_file() else 0
        for epoch in range(done, epochs):
            torch.manual_seed(shard_seed("train.epoch", DRAWS, seed, [epoch]))
            loss = _epoch(recipe, model, optimizer, pool, epoch, epochs, device)
            if file is not None:
                _keep(file, name, epoch + 1, model, optimizer)
            if after_epoch is not None:
                after_epoch(epoch + 1, loss)
    model.eval()
    return {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}


def _epoch(
    recipe: Recipe,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pool: Pool,
    epoch: int,
    epochs: int,
    device: str,
) -> float:
    """One pass over the examples; the mean loss."""
    model.train()
    batches = list(_batches(len(pool), recipe.batch_size))
    total, seen = 0.0, 0
    memory: dict[str, Any] = {}
    for step, rows in enumerate(batches):
        x = as_tensor(pool.x(rows), pool.spec)
        x = crop_flip(x) if recipe.augment == "crop_flip" else x
        y = torch.from_numpy(pool.y[rows]).to(device)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate((epoch + (step + 1) / len(batches)) / epochs)
        for loss in recipe.losses(model, x.to(device), y, memory):
            value = float(loss.detach())
            if not math.isfinite(value):
                where = f"epoch {epoch + 1}, step {step + 1}"
                raise DataError(f"training diverged: the loss is {value} in {where}; try a smaller lr than {recipe.lr}")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total, seen = total + value * len(rows), seen + len(rows)
    return total / seen


def _batches(n: int, size: int) -> Iterator[Any]:
    """Positions in random order; a last batch of one example is left out, because batch norm needs two."""
    order = torch.randperm(n).numpy()
    for start in range(0, n, size):
        if n - start > 1 or n == 1:
            yield order[start : start + size]


def crop_flip(x: torch.Tensor, padding: int = 4) -> torch.Tensor:
    """Each image of `[n c h w]` shifted by up to `padding` pixels zeros outside, mirrored with probability 1/2."""
    n, _, h, w = x.shape
    padded = nn.functional.pad(x, (padding,) * 4)
    down, right = torch.randint(0, 2 * padding + 1, (2, n))
    rows = (down[:, None] + torch.arange(h))[:, None, :, None]
    columns = (right[:, None] + torch.arange(w))[:, None, None, :]
    cropped = padded[torch.arange(n)[:, None, None, None], torch.arange(x.shape[1])[None, :, None, None], rows, columns]
    return torch.where((torch.rand(n) < 0.5)[:, None, None, None], cropped.flip(3), cropped)


def _check(pool: Pool, epochs: int) -> None:
    if epochs < 1:
        raise UsageError(f"train.epochs: expected at least 1, got {epochs}")
    if not len(pool):
        raise UsageError("there are no training examples: the train split is empty")
    if (pool.y < 0).any():
        raise DataError(f"{int((pool.y < 0).sum())} of the {len(pool)} training examples have no label")


def _identity(recipe: str, params: Mapping[str, Any], pool: Pool, seed: int, epochs: int) -> str:
    """Digest of everything that decides the result besides the network."""
    data = digest_bytes(*pool.content())
    return digest(
        {"recipe": recipe, "params": dict(params), "data": data, "seed": seed, "epochs": epochs, "version": VERSION}
    )


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay)


def _keep(file: Path, name: str, epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the checkpoint: weights as `model.KEY`, optimiser state as `optimizer.INDEX.KEY`."""
    tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items() if value is not None}
    weights.write(tensors, file, {"training": json.dumps({"identity": name, "epoch": epoch})})


def _resume(file: Path, name: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put a checkpoint's state back and return how many epochs it has behind it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            meta = json.loads((stored.metadata() or {}).get("training", "{}"))
            tensors = {key: stored.get_tensor(key) for key in stored.keys()}  # noqa: SIM118 - not a mapping
    except SafetensorError as error:
        raise DataError(f"the checkpoint {file} is damaged ({error}); delete it to train from the start") from None
    if meta.get("identity") != name:
        raise DataError(
            f"the checkpoint {file} is of another training (recipe, data, seed or epochs differ); "
            "delete it or name another file"
        )
    state = {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}
    if problems := weights.mismatches(model.state_dict(), state):
        raise DataError(f"the checkpoint {file} is of another network: {problems[0]}")
    model.load_state_dict(state)
    kept: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".", 2)
            kept.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": kept, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(meta["epoch"])
