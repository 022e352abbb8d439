"""Jobs about attacks: attack one shard, take the worst case over attacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.perturb import restarts
from testbed.runner.operations import access
from testbed.store import Store, Writer
from testbed.types import Array, Examples, Job, Outputs


def attack(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Attack one shard of a set, and keep the images, the ledger and the audit's by-products."""
    import torch

    from testbed.perturb import unit
    from testbed.perturb.attack import Attack
    from testbed.perturb.pushed import Pushed
    from testbed.runner.operations.models import as_planned, classifier, tensor

    recipe = job.recipe
    plugin = access.code("attack", recipe["attack"], store)
    parts = list(access.shards(store, job.inputs["set"], recipe["part"]))
    with as_planned(recipe["runtime"]) as device:
        model = classifier(job, store, device)
        victim = victim_of(job, store, model)
        spec = parts[0].spec
        box = unit.UnitBox(victim, spec) if unit.needed(spec) else None
        params, batch = recipe["attack"]["params"], recipe["runtime"]["batch"]
        handle = Attack(plugin, params, recipe["norm"], recipe["eps"], batch=batch, fixed=spec.categorical)
        out = access.SetWriter(writer, parts[0].spec.attacked(), parts[0].group_names)
        books, audits = [], []
        for examples in parts:
            x = tensor(examples, device)
            y = torch.from_numpy(np.array(examples.y))
            if isinstance(victim, Pushed):
                y = torch.full_like(y, victim.label)
            elif (examples.y < 0).any() and plugin.facts["objective"] != "detector":
                with torch.inference_mode():
                    y = model.logits(x).argmax(1).cpu()
                writer.meta["labels"] = "the model's own clean predictions: the set has none"
            start = x if box is None else box.enter(x)
            result = narrowed(job, store, handle, box, device).run(
                box or victim, start, y, ids=examples.ids, seed=recipe["seed"]
            )
            moved = result.x if box is None else box.restored(result.x, x)
            if isinstance(victim, Pushed):
                result = replace(result, success=crossed(victim, moved, device, batch))
            out.add(
                Examples(
                    unit.at_rest(moved, spec),
                    examples.y,
                    examples.ids,
                    examples.spec.attacked(),
                    examples.groups,
                    examples.group_names,
                )
            )
            books.append({"ids": examples.ids, **result.ledger()})
            audits.append((len(examples), dict(result.audit)))
    out.close()
    book = {name: np.concatenate([b[name] for b in books]) for name in books[0]}
    writer.tensors("ledger", book)
    writer.meta["audit"] = merge_audits(audits)
    # What an endpoint is sent is paid for, so its cost holds the checks of the result too; the ledger's queries do not.
    sent = getattr(model.module, "sent", None)
    forwards = int(book["queries"].sum()) if sent is None else sent
    return {"forwards": forwards, "gradients": int(book["gradients"].sum())}


def narrowed(job: Job, store: Store, handle: Any, box: Any, device: Any) -> Any:
    """The attack as the job narrows it: taking up a larger budget of its curve, or only on what another left."""
    from testbed.perturb.warm import Larger, only, warmed
    from testbed.runner.operations.models import tensor

    if "standing" in job.inputs:
        book = access.ledger(store, job.inputs["standing"])
        return only(handle, book["ids"][~book["success"]])
    if "larger" not in job.inputs:
        return handle
    examples = access.whole(store, job.inputs["larger"])
    x = tensor(examples, device)
    book = aligned(access.ledger(store, job.inputs["larger"]), examples.ids)
    return warmed(handle, Larger(examples.ids, x if box is None else box.enter(x), book["success"]))


def victim_of(job: Job, store: Store, model: Any) -> Any:
    """What the attack differentiates: the network, through a calibrator or past a layer, or a detector's score."""
    from testbed.perturb.targets import with_bpda

    kind = job.recipe["victim"]["kind"]
    if kind == "model":
        return model.module
    if kind == "detector":
        return pushed(job, store, model)
    if kind == "bpda":
        return with_bpda(model.module, job.recipe["victim"]["layer"]).eval()
    from testbed.perturb import victims
    from testbed.runner.operations import fits

    calibrator, _ = fits.fitted(job, store, recipe=job.recipe["victim"]["calibrator"])
    return victims.calibrated(model.module, calibrator).eval()


def pushed(job: Job, store: Store, model: Any) -> Any:
    """A detector's score as the victim, with the fitted detector and its usual scores from the store."""
    from testbed.detection.differentiable import torch_score
    from testbed.perturb.pushed import Pushed
    from testbed.runner.operations.fits import fitted_detector

    recipe = job.recipe["victim"]["detector"]
    detector = fitted_detector(recipe, access.one(job, "bank"), store)
    score = torch_score(detector, access.outputs(store, access.one(job, "outputs"), features=False))
    usual = store.tensors(access.one(job, "usual"), "scores")["scores"]
    if "features" in detector.consumes and model.feature_reason:
        raise DataError(f"detector {type(detector).__name__} reads features, and {model.feature_reason}")
    return Pushed(model.module, model.differentiable_outputs, score, usual, job.recipe["victim"]["side"]).eval()


def crossed(victim: Any, x: Any, device: Any, batch: int) -> Array:
    """bool `[n]`: examples whose score is past the 95 % quantile of the usual ones; the attack itself stops nowhere."""
    import torch

    with torch.no_grad():
        found: Array = torch.cat([victim.crossed(part.to(device)).cpu() for part in torch.split(x, batch)]).numpy()
    return found


def merge_audits(parts: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """One audit of several shards: numbers are averaged by size, flags are or-ed, maxima and counts are kept as such.

    >>> merge_audits([(1, {"n": 1, "noise_success": 0.0}), (3, {"n": 3, "noise_success": 1.0})])
    {'n': 4, 'noise_success': 0.75}
    """
    total = sum(size for size, _ in parts)
    merged: dict[str, Any] = {}
    for name in parts[0][1]:
        values = [(size, np.asarray(audit[name])) for size, audit in parts if name in audit]
        first = values[0][1]
        if first.dtype == bool:
            merged[name] = bool(any(v.any() for _, v in values))
        elif first.ndim:
            continue
        elif first.dtype.kind == "i":
            merged[name] = int(sum(int(v) for _, v in values))
        elif name == "randomised_forward":
            merged[name] = float(max(float(v) for _, v in values))
        elif first.dtype.kind == "f":
            merged[name] = float(sum(size * float(v) for size, v in values) / total)
    return {**merged, **restarts.merged([audit for _, audit in parts], total)}


def worst(job: Job, store: Store, writer: Writer) -> None:
    """The per-example worst case over attacks: the first that fools, else the one of the highest loss.

    Works on outputs: no image is needed, because every attacked set has been through the model already.
    """
    sets = [access.outputs(store, digest) for digest in job.inputs["outputs"]]
    ids = np.asarray(sets[0].ids)
    books = [aligned(access.ledger(store, job.inputs[f"ledger{i}"]), ids) for i in range(len(sets))]
    pick, rows = picked(sets), np.arange(len(ids))
    chosen = {
        name: np.stack([np.asarray(getattr(s, name)) for s in sets])[pick, rows]
        for name in ("logits", "features")
        if getattr(sets[0], name) is not None
    }
    access.write_outputs(writer, 0, {**chosen, "y": sets[0].labels, "ids": ids, "groups": sets[0].groups})
    if sets[0].head_weight is not None and sets[0].head_bias is not None:
        writer.tensors("head", {"weight": np.array(sets[0].head_weight), "bias": np.array(sets[0].head_bias)})
    book = {name: np.stack([b[name] for b in books])[pick, rows] for name in books[0]}
    for cost in ("queries", "gradients"):
        book[cost] = np.sum([b[cost] for b in books], axis=0)
    writer.tensors("ledger", {**book, "attack": pick.astype(np.int32)})
    writer.meta["n"] = len(ids)


def picked(sets: Sequence[Outputs]) -> Array:
    """int64 `[n]`: for each example the set that stands for it: the first that fools, else the one of highest loss."""
    fooled = np.stack([predicted_wrong(s) for s in sets])
    loss = np.stack([cross_entropy(s) for s in sets])
    chosen: Array = np.where(fooled.any(axis=0), fooled.argmax(axis=0), loss.argmax(axis=0))
    return chosen


def detect_worst(job: Job, store: Store, writer: Writer) -> None:
    """The scores that a detector gave the example which the worst case picked."""
    from testbed.runner.operations.fits import write_scores

    sets = [access.outputs(store, digest, features=False) for digest in job.inputs["outputs"]]
    ids = np.asarray(sets[0].ids)
    books = [aligned(store.tensors(digest, "scores"), ids) for digest in job.inputs["scores"]]
    scores = np.stack([book["scores"] for book in books])[picked(sets), np.arange(len(ids))]
    write_scores(writer, scores, ids)


def aligned(book: Mapping[str, Array], ids: Array) -> dict[str, Array]:
    """A ledger in the order of `ids`."""
    order = np.argsort(book["ids"], kind="stable")
    rows = order[np.searchsorted(book["ids"], ids, sorter=order)]
    return {name: values[rows] for name, values in book.items()}


def predicted_wrong(data: Outputs) -> Array:
    """bool `[n]`: the prediction is not the label."""
    wrong: Array = np.asarray(data.logits).argmax(axis=1) != np.asarray(data.labels)
    return wrong


def cross_entropy(data: Outputs) -> Array:
    """float64 `[n]`: -log softmax at the label."""
    from scipy.special import logsumexp

    logits = np.asarray(data.logits, dtype=np.float64)
    loss: Array = logsumexp(logits, axis=1) - logits[np.arange(len(logits)), np.asarray(data.labels)]
    return loss
