"""Jobs that run networks: weights, train, forward."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from testbed import boundary
from testbed.errors import DataError
from testbed.models import build
from testbed.models import weights as weight_files
from testbed.models.black_box import BlackBox
from testbed.models.classifier import Classifier, grey
from testbed.models.reading import read
from testbed.models.tensors import as_tensor
from testbed.models.variants import varied
from testbed.perturb.attack import seeded
from testbed.runner.operations import access
from testbed.runner.operations.checkpoints import checkpoint
from testbed.store import Store, Writer
from testbed.types import Array, Examples, Job, Spec


@contextlib.contextmanager
def as_planned(runtime: Mapping[str, Any]) -> Iterator[torch.device]:
    """The threads and the device of the plan, for the duration of a job.

    The global generators start every job from one seed, so that a network that draws from them gives the same outputs
    in whichever process, and after whatever else, a job is run.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(runtime["threads"])
    try:
        with seeded(0):
            yield torch.device(runtime["device"])
    finally:
        torch.set_num_threads(before)


def network(job: Job, store: Store, bare: bool = True) -> torch.nn.Module:
    """The job's network as its code builds it; whatever it draws is drawn with seed 0. `bare`: weights are put in."""
    plugin = access.code("model", job.recipe["model"], store)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build.module(plugin.build(**job.recipe["model"]["params"]), access.described(job, store), bare=bare)


def classifier(job: Job, store: Store, device: torch.device) -> Classifier:
    """The job's network with its weights, frozen, in eval mode, on a device."""
    members = []
    for digest in job.inputs["weights"]:
        member, arrays = network(job, store), store.tensors(digest, "weights")
        weight_files.restore(member, {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
        members.append(read(boundary.evaluating(member), job.recipe.get("reading")))
    variant = job.recipe.get("variant")
    module = varied(variant, members) if variant else members[0]
    return Classifier(module.to(device), job.recipe["feature_layer"], spec=access.described(job, store))


def tensor(examples: Examples, device: torch.device | str = "cpu") -> torch.Tensor:
    """A set at rest as a model takes it, on a device."""
    return as_tensor(examples.x, examples.spec).to(device)


def file(job: Job, store: Store, writer: Writer) -> None:
    """A file of weights is kept by the driver before any job starts; one that is not there was refused then."""
    failure = store.failure(job.digest)
    raise DataError(failure.message if failure else f"{job.label} is not in the store {store.url}")


def weights(job: Job, store: Store, writer: Writer) -> None:
    """Keep a network's weights: those of the file that the plan hashed, or as the code builds them."""
    module = network(job, store, bare=bool(job.inputs.get("file")))
    if job.inputs.get("file"):
        origin = access.one(job, "file")
        arrays, name = store.tensors(origin, "weights"), store.require(origin).meta.get("name", job.label)
        built = access.code("model", job.recipe["model"], store).build(**job.recipe["model"]["params"])
        state = {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
        weight_files.fit(module, state, getattr(built, "key_map", None), where=name)
    _write_weights(writer, module.state_dict())
    runs(module, access.described(job, store))


def runs(module: torch.nn.Module, spec: Spec) -> None:
    """Run the network once on two grey examples: what its forward raises fails this job, not one job a set later on."""
    if isinstance(module, BlackBox):
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.random.fork_rng(), torch.no_grad():
        boundary.ask(boundary.evaluating(module).to(device), grey(spec, module))


def train(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Train a network by a recipe; a checkpoint in the store lets a killed job go on."""
    from testbed.models.train import train as run_recipe

    recipe, runtime = job.recipe["train"], job.recipe["runtime"]
    shards = list(access.shards(store, job.inputs["set"]))
    plugin = access.code("model", job.recipe["model"], store)
    with as_planned(runtime) as device, checkpoint(store, job.digest) as kept:
        state = run_recipe(
            recipe["recipe"],
            recipe["params"],
            lambda spec: read(
                build.module(plugin.build(**job.recipe["model"]["params"]), spec, bare=True), job.recipe.get("reading")
            ),
            shards,
            seed=job.recipe["seed"],
            epochs=recipe["epochs"],
            checkpoint=kept.file,
            device=str(device),
            after_epoch=kept.after_epoch,
        )
        _write_weights(writer, state)
    writer.meta["nondeterministic"] = runtime["device"] != "cpu"
    seen = sum(map(len, shards)) * recipe["epochs"]
    return {"forwards": seen, "gradients": seen}


def _write_weights(writer: Writer, state: Mapping[str, torch.Tensor]) -> None:
    tensors = weight_files.tensors_of(state)
    arrays = {name: np.ascontiguousarray(value.detach().cpu().numpy()) for name, value in tensors.items()}
    writer.tensors("weights", arrays)
    writer.meta["parameters"] = int(sum(value.size for value in arrays.values()))


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
        writer.tensors("head", {"weight": np.ascontiguousarray(head[0]), "bias": np.ascontiguousarray(head[1])})
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
