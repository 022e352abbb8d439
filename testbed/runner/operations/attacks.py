"""Jobs about attacks: attack one shard, at one budget or at all of a curve, and take the worst case over attacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from testbed.errors import DataError
from testbed.perturb import restarts
from testbed.runner.operations import access
from testbed.store import Store, Writer
from testbed.types import Array, Examples, Job, Outputs, Spec


def attack(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Attack one shard of a set, and keep the images, the ledger and the audit's by-products."""
    from testbed.perturb.aims import of_groups
    from testbed.perturb.only import only

    eps, seed, tally = job.recipe["eps"], job.recipe["seed"], Tally()
    with Stand.of(job, store) as stand:
        handle = stand.handle(job.recipe["attack"]["params"], eps)
        if "standing" in job.inputs:
            book = access.ledger(store, job.inputs["standing"])
            handle = only(handle, book["ids"][~book["success"]])
        out = access.SetWriter(writer, stand.spec.attacked(), stand.group_names)
        for examples in stand.examples():
            x, y = stand.enter(examples)
            here = of_groups(handle, examples)
            result = here.run(stand.box or stand.victim, x, y, ids=examples.ids, seed=seed)
            out.add(tally.add(*stand.leave(examples, result)))
    out.close()
    writer.meta.update(stand.notes, parts=handle_parts(handle))
    tally.write(writer)
    return tally.costs(stand.model)


def sweep(job: Job, store: Store, writer: Writer) -> Mapping[str, int]:
    """Take one shard of a set down all budgets of a curve; keep for each what `attack` keeps, for `level` to read."""
    from testbed.perturb.aims import of_groups
    from testbed.perturb.levels import levels

    recipe, params = job.recipe, job.recipe["attack"]["params"]
    tallies = [Tally() for _ in recipe["eps"]]
    with Stand.of(job, store) as stand:
        attacks = [stand.handle({**params, "eps": eps}, eps) for eps in recipe["eps"]]
        for number, examples in enumerate(stand.examples()):
            x, y = stand.enter(examples)
            here = [of_groups(one, examples) for one in attacks]
            found = levels(here, stand.box or stand.victim, x, y, ids=examples.ids, seed=recipe["seed"])
            for level, (result, tally) in enumerate(zip(found, tallies, strict=True)):
                access.write_shard(writer, f"{level}-{number:05d}", tally.add(*stand.leave(examples, result)))
    about = {"spec": asdict(stand.spec.attacked()), "group_names": list(stand.group_names), **stand.notes}
    writer.meta.update(about, eps=recipe["eps"], parts=handle_parts(attacks[0]))
    for level, tally in enumerate(tallies):
        tally.write(writer, f"-{level}")
    return tallies[0].costs(stand.model, *tallies[1:])


def level(job: Job, store: Store, writer: Writer) -> None:
    """The set and the ledger that a sweep left at one budget, as if they were from an attack alone."""
    digest = access.one(job, "sweep")
    manifest = store.require(digest)
    number = manifest.meta["eps"].index(job.recipe["eps"])
    spec, names = access.spec_of(manifest.meta), tuple(manifest.meta["group_names"])
    out = access.SetWriter(writer, spec, names)
    for name in sorted(n for n in manifest.blobs if n.startswith(f"set-{number}-")):
        t = store.tensors(digest, name)
        out.add(Examples(t["x"], t["y"], t["ids"], spec, t.get("groups"), names))
    out.close()
    writer.meta.update({key: manifest.meta[key] for key in ("labels", "parts") if key in manifest.meta})
    writer.tensors("ledger", store.tensors(digest, f"ledger-{number}"))
    writer.meta["audit"] = manifest.meta[f"audit-{number}"]


def handle_parts(attack: Any) -> list[str]:
    """Names of the parts that an attack is made of, in the order that the ledger's `stage` counts."""
    name, target = attack.plugin.name, attack.plugin.build(**attack.params)
    return [f"{name}:{part}" for part, _ in target.stages()] if hasattr(target, "stages") else [name]


@dataclass
class Stand:
    """All that an attack job attacks with; `notes` go to the manifest."""

    job: Job
    store: Store
    device: Any
    model: Any
    victim: Any
    box: Any
    plugin: Any
    spec: Spec
    group_names: tuple[str, ...]
    notes: dict[str, Any]

    @classmethod
    @contextmanager
    def of(cls, job: Job, store: Store) -> Iterator[Stand]:
        """Loaded as the job's recipe says; torch runs as planned inside."""
        from testbed.perturb import unit
        from testbed.runner.operations.models import as_planned, classifier

        first = next(access.shards(store, job.inputs["set"], job.recipe["part"]))
        with as_planned(job.recipe["runtime"]) as device:
            model = classifier(job, store, device)
            victim = victim_of(job, store, model)
            box = unit.UnitBox.of(victim, first.spec) if unit.needed(first.spec) else None
            plugin = access.code("attack", job.recipe["attack"], store)
            yield cls(job, store, device, model, victim, box, plugin, first.spec, first.group_names, {})

    def handle(self, params: Mapping[str, Any], eps: float | None) -> Any:
        """The attack at one budget."""
        from testbed.perturb.attack import Attack

        batch, elsewhere = self.job.recipe["runtime"]["batch"], self.job.recipe["victim"]["kind"] == "transfer"
        fixed = self.spec.categorical
        return Attack(self.plugin, params, self.job.recipe["norm"], eps, batch=batch, fixed=fixed, transfer=elsewhere)

    def examples(self) -> Iterator[Examples]:
        """What is attacked, shard by shard."""
        return access.shards(self.store, self.job.inputs["set"], self.job.recipe["part"])

    def enter(self, examples: Examples) -> tuple[Any, Any]:
        """Where the attack starts, on the device, and the labels it moves away from."""
        import torch

        from testbed import boundary
        from testbed.perturb.pushed import Pushed
        from testbed.runner.operations.models import tensor

        x, y = tensor(examples, self.device), torch.from_numpy(np.array(examples.y))
        if isinstance(self.victim, Pushed):
            y = torch.full_like(y, self.victim.label)
        elif (examples.y < 0).any() and self.plugin.facts["objective"] != "detector":
            with torch.inference_mode():
                y = boundary.predicted(self.model.logits(x)).cpu()
            self.notes["labels"] = "the model's own clean predictions: the set has none"
        return x if self.box is None else self.box.enter(x), y

    def leave(self, examples: Examples, result: Any) -> tuple[Examples, Any]:
        """The attacked examples as they are stored, and the result with success as the victim means it."""
        from testbed.perturb import unit
        from testbed.perturb.pushed import Pushed
        from testbed.runner.operations.models import tensor

        moved = result.x if self.box is None else self.box.restored(result.x, tensor(examples, self.device))
        if isinstance(self.victim, Pushed):
            batch = self.job.recipe["runtime"]["batch"]
            success = crossed(self.victim, moved, self.device, batch)
            result = replace(result, success=success, stage=np.where(success, 0, -1).astype(result.stage.dtype))
        spec = examples.spec.attacked()
        at_rest = unit.at_rest(moved, examples.spec)
        return Examples(at_rest, examples.y, examples.ids, spec, examples.groups, examples.group_names), result


@dataclass
class Tally:
    """The ledger and the audit of an attacked set, shard by shard."""

    books: list[dict[str, Array]] = field(default_factory=list)
    audits: list[tuple[int, dict[str, Any]]] = field(default_factory=list)

    def add(self, examples: Examples, result: Any) -> Examples:
        """Note one shard's result; gives the examples back."""
        self.books.append({"ids": examples.ids, **result.ledger()})
        self.audits.append((len(examples), dict(result.audit)))
        return examples

    def write(self, writer: Writer, suffix: str = "") -> None:
        """One ledger and one audit."""
        book = {name: np.concatenate([b[name] for b in self.books]) for name in self.books[0]}
        writer.tensors(f"ledger{suffix}", book)
        writer.meta[f"audit{suffix}"] = merge_audits(self.audits)

    def costs(self, model: Any, *others: Tally) -> dict[str, int]:
        """What was asked of the model. What an endpoint is sent is paid for, so that holds the checks of the result."""
        books = [book for tally in (self, *others) for book in tally.books]
        sent = getattr(model.module, "sent", None)
        forwards = sum(int(book["queries"].sum()) for book in books) if sent is None else sent
        return {"forwards": forwards, "gradients": sum(int(book["gradients"].sum()) for book in books)}


def victim_of(job: Job, store: Store, model: Any) -> Any:
    """What the attack differentiates: the network, through a calibrator or past a layer, or a detector's score."""
    from testbed.perturb.targets import with_bpda

    kind = job.recipe["victim"]["kind"]
    if kind in ("model", "transfer"):
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
    for name in dict.fromkeys(name for _, audit in parts for name in audit):
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
    parts = [store.require(job.inputs[f"ledger{i}"][0]).meta["parts"] for i in range(len(sets))]
    before = np.cumsum([0] + [len(names) for names in parts])[pick]
    book["stage"] = np.where(book["stage"] >= 0, before + book["stage"], -1).astype(book["stage"].dtype)
    writer.tensors("ledger", {**book, "attack": pick.astype(np.int32)})
    writer.meta.update(n=len(ids), parts=[name for names in parts for name in names])


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
    wrong: Array = data.predicted != np.asarray(data.labels)
    return wrong


def cross_entropy(data: Outputs) -> Array:
    """float64 `[n]`: -log softmax at the label."""
    from scipy.special import logsumexp

    logits = np.asarray(data.logits, dtype=np.float64)
    loss: Array = logsumexp(logits, axis=1) - logits[np.arange(len(logits)), np.asarray(data.labels)]
    return loss
