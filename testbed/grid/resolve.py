"""Document -> Resolved: look every name up, type every parameter, and collect all problems before giving up.

Nothing of a user's file is executed. Built-in data sets are asked for their sizes, which they answer without loading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from testbed import plugins
from testbed.digest import digest_file
from testbed.errors import MissingExtra, Problem, TestbedError, UsageError
from testbed.files import check_regular
from testbed.grid import model as schema
from testbed.grid.asking import content, known
from testbed.grid.attack_steps import attack_steps
from testbed.grid.checks import all_checks
from testbed.grid.distinct import same_conditions, same_metrics, same_names, same_ood
from testbed.grid.doubts import doubts
from testbed.grid.model_sources import missing_packages, settled, source_problems, weight_path
from testbed.grid.paths import beside_grid
from testbed.grid.problems import paths, schema_problems, without
from testbed.grid.reader import Document, Where, spell
from testbed.grid.recorded import is_outputs, settle
from testbed.grid.refusals import check_paths, refusal, wrong_parameters
from testbed.grid.resolved import (
    CLEAN,
    Bound,
    CalibratorEntry,
    ConditionEntry,
    DataEntry,
    DetectorEntry,
    ModelEntry,
    OodEntry,
    Resolved,
    Step,
)
from testbed.grid.sizes import too_large
from testbed.grid.tuning import resolve_tuning
from testbed.types import Kind, Spec

Entry = TypeVar("Entry")


def resolve(document: Document) -> Resolved:
    """The resolved grid; UsageError with every problem found."""
    if not isinstance(document.value, dict):
        raise UsageError(
            [document.problem((), f"expected a mapping with name, data, models ..., got {document.value!r}")]
        )
    try:
        grid = schema.Grid.model_validate(document.value)
    except ValidationError as error:
        raise UsageError([*schema_problems(document, error), *further(document, paths(document, error))]) from None
    if large := [document.problem(where, says) for where, says in too_large(grid)]:
        raise UsageError(large)
    resolver = Resolver(document, grid)
    resolved = resolver.run()
    if resolver.problems:
        found = UsageError(resolver.problems)
        if resolver.missing == len(resolver.problems):
            found.exit_code = MissingExtra.exit_code
        raise found
    return resolved


def further(document: Document, spoilt: Sequence[Where]) -> list[Problem]:
    """The unknown names and parameters of a grid that has other problems too: those of the entries without them."""
    value = without(document.value, spoilt)
    try:
        grid = schema.Grid.model_validate(value)
    except ValidationError:
        return []
    if any(too_large(grid)):
        return []
    resolver = Resolver(replace(document, value=value), grid)
    resolver.look_up()
    entries = tuple(spell(where[:2]) for where in spoilt)
    return [problem for problem in resolver.problems if not problem.path.startswith(entries)]


class Resolver:
    """Looks up the entries of one document and gathers all problems on the way."""

    def __init__(self, document: Document, grid: schema.Grid) -> None:
        self.document, self.grid = document, grid
        self.problems: list[Problem] = []
        self.missing = 0
        self.notes: list[str] = []
        self.kinds: set[Kind] = set()
        self.places: dict[str, str] = {}
        self.model_names: list[str] = []
        self.detector_names: list[str] = []

    def fail(self, where: Where, message: str) -> None:
        self.problems.append(self.document.problem(where, message))

    def run(self) -> Resolved:
        """Everything looked up, and what must hold between the parts of a grid checked."""
        resolved = self.look_up()
        self.note(same_conditions(self.document, resolved.conditions))
        for where, message in all_checks(resolved):
            self.fail(where, message)
        doubted = dict.fromkeys(str(self.document.problem(where, message)) for where, message in doubts(resolved))
        return replace(resolved, notes=(*resolved.notes, *doubted))

    def look_up(self) -> Resolved:
        """Every name and parameter looked up."""
        grid = self.grid
        data = self.each("data", grid.data, self.data)
        kinds = {entry.spec.kind for entry in data if entry.spec and not is_outputs(entry.bound)}
        self.kinds = kinds
        models = self.each("models", grid.models, self.model)
        models = settle(models, data)
        self.unique("data", data, "data set")
        self.unique("models", models, "model")
        self.model_names = [m.name for m in models]
        self.detector_names = [d.name or _short(d.use) for d in grid.detectors]
        conditions = [c for i, one in enumerate(grid.conditions) for c in self.condition(("conditions", i), one)]
        calibrators = self.each("calibrators", grid.calibrators, self.calibrator)
        self.unique("calibrators", calibrators, "calibrator")
        detectors = self.each("detectors", grid.detectors, self.detector)
        self.unique("detectors", detectors, "detector")
        outside = [(("ood", i), o) for i, one in enumerate(grid.ood) for o in self.ood(("ood", i), one)]
        self.note(same_ood(self.document, outside))
        measures = [(i, m) for i, one in enumerate(grid.metrics) if (m := self.bind("metric", ("metrics", i), one))]
        self.note(same_metrics(self.document, measures))
        notes = tuple(self.notes)
        return Resolved(
            grid,
            self.document.file,
            tuple(data),
            tuple(models),
            tuple(conditions),
            tuple(calibrators),
            tuple(detectors),
            tuple(o for _, o in outside),
            tuple(m for _, m in measures),
            notes,
            self.places,
        )

    def each(self, key: str, entries: Sequence[Any], make: Callable[[Where, Any], Entry | None]) -> list[Entry]:
        return [made for i, one in enumerate(entries) if (made := make((key, i), one)) is not None]

    def bind(
        self, kind: str, where: Where, use: Any, given: Mapping[str, Any] | None = None, owns: Iterable[str] = ()
    ) -> Bound | None:
        """The plug-in and its typed parameters; `given` are those that stand outside of `use`."""
        name, params = use.use, use.params
        try:
            plugin = plugins.read(kind, name, self.document.base)
        except TestbedError as error:
            self.fail((*where, "use") if self.has(where, "use") else where, str(error))
            return None
        takes = {p.name for p in plugin.parameters}
        for key in sorted(set(params) & set(owns)):
            self.fail((*where, key), f"belongs outside of `use`, beside {kind!r}")
        own = {k: v for k, v in params.items() if k not in owns}
        try:
            bound = Bound(plugin, plugin.validate({**own, **{k: v for k, v in (given or {}).items() if k in takes}}))
            refused = refusal(bound)
        except ValidationError as error:
            for loc, says in wrong_parameters(plugin, f"{kind} {name!r}", error, type(use).model_fields):
                outside = given is not None and loc[:1] and loc[0] in given
                self.fail((*where[:2], loc[0]) if outside else (*where, *loc), says)
            return None
        if refused is not None:
            self.fail(where, f"{kind} {name!r}: {refused}")
            return None
        return bound if self.rests(where, bound) else None

    def rests(self, where: Where, bound: Bound) -> bool:
        """Whether all is there that a plug-in says it rests on; a problem where it is not."""
        try:
            return bool(bound.identity)
        except UsageError as error:
            self.fail(where, f"{bound.plugin.kind} {bound.plugin.name!r}: {error}")
            return False

    def has(self, where: Where, key: str) -> bool:
        return (*where, key) in self.document.positions

    def unique(self, key: str, entries: Sequence[Any], what: str) -> None:
        """Refuse a name that an earlier entry has: it stands in the rows."""
        self.note(same_names(self.document, key, entries, what))

    def note(self, problems: Iterable[tuple[Where, str]]) -> None:
        """Note all of these problems."""
        for where, message in problems:
            self.fail(where, message)

    def data(self, where: Where, entry: schema.Data) -> DataEntry | None:
        bound = self.bind("dataset", where, entry)
        if bound is None:
            return None
        bound = beside_grid(bound, self.document.base)
        counts = {split: getattr(entry, split) for split in ("train", "calibration", "test")}
        sizes, content, spec = self.ask(where, bound)
        name = entry.name or _short(entry.use)
        if sizes:
            from testbed.data.splits import split_plan

            try:
                split_plan(sizes, train=entry.train, calibration=entry.calibration, test=entry.test, limit=entry.limit)
            except TestbedError as error:
                self.fail(where, str(error))
        return DataEntry(name, bound, counts, entry.limit, sizes, content, spec)

    def ask(self, where: Where, bound: Bound) -> tuple[dict[str, int], dict[str, Any], Spec | None]:
        """Sizes, fingerprint and spec of an installed data set; of a user's only the fingerprint."""
        if bound.plugin.source is not None:
            return {}, content(self, where, bound), None
        try:
            check_paths(bound)
            dataset = bound.plugin.build(**bound.params)
            if not hasattr(dataset, "spec"):
                self.fail(where, f"{bound.plugin.name!r} is made like the data it is held against: name it under `ood`")
                return {}, {}, None
            sizes = dict(dataset.sizes())
            return sizes, known(self, dataset), dataset.spec() if sizes else None
        except (TestbedError, OSError, ValueError) as error:
            self.fail(where, str(error))
            return {}, {}, None

    def model(self, where: Where, entry: schema.Model) -> ModelEntry | None:
        read = {key: getattr(entry, key) for key in ("output", "scores") if getattr(entry, key) is not None}
        bound = self.bind("model", where, entry, read)
        if bound is None:
            return None
        reading = {k: v for k, v in read.items() if k not in bound.params and (k, v) != ("scores", "logits")}
        self.check_kind(where, bound)
        train = None
        if entry.train is not None:
            train = self.recipe((*where, "train"), entry.train)
        for key, message in source_problems(entry, bound.plugin):
            self.fail((*where, key) if key else where, message)
        bound = settled(self, where, bound) if self.packages(where, bound.plugin) else bound
        path = digest = None
        try:
            path = weight_path(entry, bound, self.document.base)
            if path is not None:
                check_regular(path)
            digest = digest_file(path) if path is not None else None
        except OSError as error:
            self.fail((*where, "weights"), f"cannot read {str(path)!r}: {error.strerror or error}")
        except MissingExtra as error:
            self.fail(where, str(error))
            self.missing += 1
        variant = entry.predict.recipe() if entry.predict else None
        if variant and variant["kind"] == "ensemble" and train is None:
            self.fail((*where, "predict"), "an ensemble is trained from several seeds: give the model `train`")
        name = entry.name or _short(entry.use)
        return ModelEntry(name, bound, train, path, digest, entry.feature_layer, variant, reading)

    def packages(self, where: Where, plugin: plugins.Plugin) -> bool:
        """Whether the packages that a plug-in runs with are installed; a problem where one is not."""
        if (error := missing_packages(plugin)) is not None:
            self.fail(where, str(error))
            self.missing += 1
        return error is None

    def recipe(self, where: Where, train: schema.Train) -> Mapping[str, Any] | None:
        from testbed.models import recipes

        try:
            plugin = recipes.read(train.recipe)
            return {
                "recipe": plugin.name,
                "version": plugin.facts["version"],
                "epochs": train.epochs,
                "params": plugin.validate(train.params),
            }
        except ValidationError as error:
            for loc, says in wrong_parameters(plugin, f"recipe {train.recipe!r}", error, schema.Train.model_fields):
                self.fail((*where, *loc), says)
        except TestbedError as error:
            self.fail((*where, "recipe"), str(error))
        return None

    def check_kind(self, where: Where, bound: Bound) -> None:
        takes: tuple[str, ...] = bound.plugin.facts.get("kinds") or ()
        for kind in self.kinds if takes else ():
            if kind not in takes:
                self.fail(
                    where,
                    f"{bound.plugin.kind} {bound.plugin.name!r} takes {' or '.join(takes)} sets; the data is {kind}",
                )

    def condition(self, where: Where, entry: Any) -> list[ConditionEntry]:
        if entry == "clean":
            return [replace(CLEAN, where=where)]
        if isinstance(entry, schema.ChainCondition):
            chains: list[tuple[Step, ...]] = [()]
            for i, part in enumerate(entry.chain):
                steps = self.steps((*where, "chain", i), part)
                chains = [(*chain, step) for chain in chains for step in steps]
        else:
            chains = [(step,) for step in self.steps(where, entry)]
        return [
            ConditionEntry(entry.name or "+".join(s.bound.plugin.name for s in chain), chain, where)
            for chain in chains
            if chain
        ]

    def steps(self, where: Where, entry: Any) -> list[Step]:
        if isinstance(entry, schema.ShiftCondition):
            return self.shift_steps(where, entry)
        return attack_steps(self, where, entry)

    def shift_steps(self, where: Where, entry: schema.ShiftCondition) -> list[Step]:
        steps = []
        for i, use in enumerate(entry.shift):
            place = self.place(where, "shift", i)
            for severity in entry.severity:
                bound = self.bind("shift", place, use, {"severity": severity}, owns=("severity",))
                if bound is None:
                    break
                self.check_kind(place, bound)
                graded = "severity" in bound.params
                steps.append(Step("shift", bound, severity if graded else None))
                if not graded:
                    break
        return steps

    def place(self, where: Where, key: str, index: int) -> Where:
        return (*where, key, index) if (*where, key, index) in self.document.positions else (*where, key)

    def calibrator(self, where: Where, entry: schema.Calibrator) -> CalibratorEntry | None:
        bound = self.bind("calibrator", where, entry)
        fits = self.condition((*where, "fit"), entry.fit)
        if bound is None or len(fits) != 1:
            if len(fits) > 1:
                self.fail((*where, "fit"), "a calibrator is fitted on one condition; this names several")
            return None
        name = entry.name or _short(entry.use) + ("" if fits[0].kind == "clean" else f"@{fits[0].label()}")
        return CalibratorEntry(name, bound, fits[0])

    def detector(self, where: Where, entry: schema.Detector) -> DetectorEntry | None:
        bound = self.bind("detector", where, entry)
        if bound is None:
            return None
        self.packages(where, bound.plugin)
        default = bound.plugin.facts["fitted_on"]
        if entry.fit and not default:
            self.fail((*where, "fit"), f"detector {bound.plugin.name!r} is not fitted on anything")
        tune = resolve_tuning(self, (*where, "tune"), entry.tune, bound) if entry.tune else None
        return DetectorEntry(entry.name or _short(entry.use), bound, entry.fit or default, tune)

    def ood(self, where: Where, entry: schema.Ood) -> list[OodEntry]:
        found = []
        conditions = self.condition((*where, "condition"), entry.condition)
        for name in entry.use:
            bound = self.bind("dataset", where, entry.model_copy(update={"use": name}))
            if bound is None:
                continue
            bound = beside_grid(bound, self.document.base)
            source, size, content = self.ask_ood(where, bound)
            found += [
                OodEntry(entry.name or _short(name), entry.group, bound, entry.limit, source, size, content, c)
                for c in conditions
            ]
        return found

    def ask_ood(self, where: Where, bound: Bound) -> tuple[str, int | None, dict[str, Any]]:
        """What an installed OOD set is made from, its size, and its fingerprint."""
        from testbed.data import ood
        from testbed.data.splits import whole

        if bound.plugin.source is not None:
            return "own", None, content(self, where, bound)
        try:
            check_paths(bound)
            dataset = bound.plugin.build(**bound.params)
            source = ood.source(dataset)
            sizes = dict(dataset.sizes())
            return source, whole(sizes).count if sizes and source != "id" else None, known(self, dataset)
        except (TestbedError, OSError, ValueError) as error:
            self.fail(where, str(error))
            return "own", None, {}


def _short(use: str) -> str:
    """The name a plug-in goes by when the grid gives none.

    >>> _short("./my_attack.py:shrink"), _short("small-cnn")
    ('shrink', 'small-cnn')
    """
    return use.rpartition(":")[2] if ".py:" in use or (":" in use and not use.startswith("foolbox:")) else use
