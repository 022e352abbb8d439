"""Jobs that run networks: weights, train, forward."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from testbed.models.classifier import Classifier
from testbed.runner.operations import access
from testbed.store import Store, Writer
from testbed.types import Array, Examples, Job, Spec


@contextlib.contextmanager
def as_planned(runtime: Mapping[str, Any]) -> Iterator[torch.device]:
    """The threads and the device of the plan, for the duration of a job."""
    before = torch.get_num_threads()
    torch.set_num_threads(runtime["threads"])
    try:
        yield torch.device(runtime["device"])
    finally:
        torch.set_num_threads(before)


def network(job: Job, store: Store, seed: int = 0) -> torch.nn.Module:
    """The job's network as its code builds it, its initial weights drawn with `seed`."""
    spec = access.described(job, store)
    plugin = access.code("model", job.recipe["model"], store)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = plugin.build(**job.recipe["model"]["params"])
        return built.build(spec) if hasattr(built, "build") else built(spec)


def classifier(job: Job, store: Store, device: torch.device) -> Classifier:
    """The job's network with its weights, frozen, in eval mode, on a device."""
    module = network(job, store)
    arrays = store.tensors(access.one(job, "weights"), "weights")
    module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    return Classifier(module.to(device), job.recipe["feature_layer"])


def tensor(examples: Examples, device: torch.device | str = "cpu") -> torch.Tensor:
    """A set at rest as a model takes it: float32, images `[n c h w]` in [0, 1]."""
    x = torch.from_numpy(np.ascontiguousarray(examples.x)).to(device)
    if examples.spec.layout == "hwc":
        x = x.permute(0, 3, 1, 2)
    elif examples.spec.layout == "tc":
        x = x.permute(0, 2, 1)
    return x.contiguous().float().div_(255) if examples.spec.dtype == "uint8" else x.contiguous().float()


def weights(job: Job, store: Store, writer: Writer) -> None:
    """Keep a network's weights: those of the file that the plan hashed, or as the code builds them."""
    module = network(job, store)
    if job.inputs.get("file"):
        load_arrays(module, store.tensors(access.one(job, "file"), "weights"))
    _write_weights(writer, module)


def train(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Train a network by a recipe."""
    from testbed.models.train import train as run_recipe

    recipe = job.recipe["train"]
    examples = access.whole(store, job.inputs["set"])
    with as_planned(job.recipe["runtime"]) as device:
        module = network(job, store, seed=job.recipe["seed"]).to(device)
        run_recipe(
            recipe["recipe"], recipe["params"], module, examples, seed=job.recipe["seed"], epochs=recipe["epochs"]
        )
    _write_weights(writer, module)
    writer.meta["nondeterministic"] = job.recipe["runtime"]["device"] != "cpu"
    return {"forwards": len(examples) * recipe["epochs"], "gradients": len(examples) * recipe["epochs"]}


def _write_weights(writer: Writer, module: torch.nn.Module) -> None:
    state = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    writer.tensors("weights", {name: np.ascontiguousarray(value) for name, value in state.items()})
    writer.meta["parameters"] = int(sum(p.numel() for p in module.parameters()))


def forward(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Logits and features of a network on a set, in the plan's batches."""
    n = 0
    with as_planned(job.recipe["runtime"]) as device:
        model = classifier(job, store, device)
        for position, examples in enumerate(access.shards(store, job.inputs["set"])):
            logits, features = _outputs(model, examples, job.recipe["runtime"]["batch"], device)
            access.write_outputs(
                writer,
                position,
                {
                    "logits": logits,
                    "features": features,
                    "y": examples.y,
                    "ids": examples.ids,
                    "groups": examples.groups,
                },
            )
            n += len(examples)
        head = model.head()
    if head is not None:
        weight, bias = (h.detach().cpu().numpy() for h in head)
        writer.tensors("head", {"weight": np.ascontiguousarray(weight), "bias": np.ascontiguousarray(bias)})
    writer.meta.update(n=n, no_features=model.feature_reason)
    return {"forwards": n}


def _outputs(model: Classifier, examples: Examples, batch: int, device: torch.device) -> tuple[Array, Array | None]:
    logits, features = [], []
    for start in range(0, len(examples), batch):
        with torch.inference_mode():
            z, f = model.outputs(tensor(examples.take(slice(start, start + batch)), device))
        logits.append(z.float().cpu().numpy())
        if f is not None:
            features.append(f.float().cpu().numpy())
    return np.concatenate(logits), np.concatenate(features) if features else None


def check_logits(logits: torch.Tensor, spec: Spec) -> None:
    """Refuse a model whose number of classes is not that of the data."""
    if logits.ndim != 2 or logits.shape[1] != spec.classes:
        from testbed.errors import DataError

        raise DataError(
            f"the model gives {list(logits.shape)} for a batch; expected [n, {spec.classes}] logits for this data set"
        )
