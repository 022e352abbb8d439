"""Models of other libraries by their own names: `timm:resnet18`, `torchvision:resnet18`, `transformers:org/name`,
`robustbench:Carmon2019Unlabeled`.

Each library is an extra and is imported when a job builds the model, never by a plan. Pretrained weights are fetched by
the library, once, by the job that keeps them in the store; the jobs after it build the bare architecture and read the
store, so they need no network. In the digest stand the library's version and the name; of a hub model of transformers
also the commit that its revision is when the plan is made, of a local folder or checkpoint the digests of its files.
timm and torchvision name their weights by tags that do not move. The weights' own hash is recorded with the artifact.

All of them take images in [0, 1]: normalisation with the model's own constants is the first layer.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from testbed.data.base import data_root
from testbed.data.hub_cache import commit_of
from testbed.errors import DataError, MissingExtra, TestbedError, UsageError, nearest
from testbed.parameters import Checked
from testbed.plugins import FACTS, Plugin, parameters
from testbed.types import Paper, Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn


class Library:
    """Base of the adapters: `plugin` binds the name behind the colon, without importing the library."""

    adapter: ClassVar = True
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    inner: ClassVar[str] = ""

    @classmethod
    def plugin(cls, ref: str, inner: str) -> Plugin:
        """The plug-in `LIBRARY:inner`."""
        facts = {name: getattr(cls, name, default) for name, default in FACTS["model"].items()}
        bound = type(cls.__name__, (cls,), {"inner": inner})
        name = inner.rpartition("/")[2]
        return Plugin("model", ref, name, parameters(cls), {**facts, "adapter": False}, None, lambda: bound)

    @property
    def key_map(self) -> Any:
        """A file of the bare network's weights fits: its keys go below `net`."""
        return lambda key: key if key.startswith("net.") else f"net.{key}"


@dataclass(frozen=True)
class Timm(Checked, Library):
    """A model of timm (PyTorch Image Models) by its name, with the tag of its weights: `timm:resnet18.a1_in1k`."""

    pretrained: bool = True

    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("timm",)

    def build(self, spec: Spec) -> nn.Module:
        """The model with its weights (fetched by timm) where `pretrained`."""
        return self._made(spec, self.pretrained)

    def architecture(self, spec: Spec) -> nn.Module:
        """The model without its weights."""
        return self._made(spec, False)

    def _made(self, spec: Spec, pretrained: bool) -> nn.Module:
        with ready("timm", self.inner):
            import timm

            bare = self.inner.partition(".")[0]
            if not timm.is_model(self.inner) and not timm.is_model(bare):
                raise UsageError(f"timm has no model {self.inner!r}; {nearest(bare, timm.list_models())}")
            classes = {} if pretrained else {"num_classes": spec.classes}
            net = timm.create_model(self.inner, pretrained=pretrained, **classes)
            config = timm.data.resolve_data_config({}, model=net)
        return prepared(net, config["mean"], config["std"])


@dataclass(frozen=True)
class Torchvision(Checked, Library):
    """A classification model of torchvision by its name; `tag` names the weights, as IMAGENET1K_V1."""

    pretrained: bool = True
    tag: str = "DEFAULT"

    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("torchvision",)

    def build(self, spec: Spec) -> nn.Module:
        """The model with its weights (fetched by torchvision) where `pretrained`."""
        return self._made(spec, self.pretrained)

    def architecture(self, spec: Spec) -> nn.Module:
        """The model without its weights."""
        return self._made(spec, False)

    def _made(self, spec: Spec, pretrained: bool) -> nn.Module:
        with ready("torchvision", self.inner):
            from torchvision import models

            known = models.list_models(module=models)
            if self.inner not in known:
                raise UsageError(
                    f"torchvision has no classification model {self.inner!r}; {nearest(self.inner, known)}"
                )
            tags = models.get_model_weights(self.inner)
            if self.tag not in tags.__members__:
                raise UsageError(
                    f"torchvision:{self.inner} has no weights {self.tag!r}; {nearest(self.tag, tags.__members__)}"
                )
            weights = tags[self.tag]
            classes = {} if pretrained else {"num_classes": spec.classes}
            net = models.get_model(self.inner, weights=weights if pretrained else None, **classes)
            constants = weights.transforms()
        return prepared(net, constants.mean, constants.std)


@dataclass(frozen=True)
class Transformers(Checked, Library):
    """An image classifier of the Hugging Face hub (or a folder written by `save_pretrained`), by name and revision."""

    pretrained: bool = True
    revision: str = "main"

    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("transformers",)

    def pinned(self) -> dict[str, Any]:
        """The revision as the commit that it is now; nothing of a local folder, which has `files()`."""
        return {} if self._folder() else {"revision": commit_of(self.inner, self.revision, "model")}

    def files(self) -> tuple[Path, ...]:
        """The files of a local folder."""
        folder = self._folder()
        return () if folder is None else tuple(sorted(f for f in folder.rglob("*") if f.is_file()))

    def _folder(self) -> Path | None:
        folder = Path(self.inner).expanduser()
        return folder if folder.is_dir() else None

    def build(self, spec: Spec) -> nn.Module:
        """The model with its weights (fetched from the hub) where `pretrained`."""
        if not self.pretrained:
            return self.architecture(spec)
        with ready("transformers", self.inner):
            from transformers import AutoModelForImageClassification

            net = AutoModelForImageClassification.from_pretrained(self.inner, revision=self.revision)
            mean, std = self._constants()
        return prepared(net, mean, std, field="logits")

    def architecture(self, spec: Spec) -> nn.Module:
        """The model without its weights."""
        with ready("transformers", self.inner):
            from transformers import AutoConfig, AutoModelForImageClassification

            config = AutoConfig.from_pretrained(self.inner, revision=self.revision)
            if not self.pretrained:
                config.num_labels = spec.classes
            net = AutoModelForImageClassification.from_config(config)
            mean, std = self._constants()
        return prepared(net, mean, std, field="logits")

    def _constants(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the model's own preprocessing; none where it says `do_normalize: false`."""
        from transformers.utils import cached_file

        name = "preprocessor_config.json"
        config = json.loads(Path(cached_file(self.inner, name, revision=self.revision)).read_text())
        if not config.get("do_normalize", True):
            return [0.0] * 3, [1.0] * 3
        return config["image_mean"], config["image_std"]


@dataclass(frozen=True)
class RobustBench(Checked, Library):
    """A model of RobustBench's zoo by its id; `dataset` and `threat` as there (Linf, L2, corruptions).

    Its checkpoint is looked for as `DATASET/THREAT/ID.pt` below TESTBED_DATA/robustbench, then below
    TORCH_HOME/hub/robustbench, where RobustBench puts what it downloads.
    """

    dataset: Literal["cifar10", "cifar100", "imagenet"] = "cifar10"
    threat: Literal["Linf", "L2", "corruptions"] = "Linf"

    version: ClassVar[int] = 1
    packages: ClassVar[tuple[str, ...]] = ("robustbench",)
    reference: ClassVar[Paper] = Paper(
        "RobustBench: a standardized adversarial robustness benchmark",
        "Francesco Croce, Maksym Andriushchenko, Vikash Sehwag, Edoardo Debenedetti, Nicolas Flammarion, Mung Chiang, "
        "Prateek Mittal, Matthias Hein", 2021, "NeurIPS Datasets and Benchmarks", "2010.09670",
    )  # fmt: skip

    def files(self) -> tuple[Path, ...]:
        """The checkpoint below TESTBED_DATA, where it is there; one that RobustBench downloads is named by its id."""
        root = data_root()
        own = None if root is None else root / "robustbench" / self.dataset / self.threat
        return () if own is None else tuple(sorted(own.glob(f"{self.inner}.pt*")))

    def build(self, spec: Spec) -> nn.Module:
        """The model with its weights, as RobustBench loads them; it normalises inside."""
        with ready("robustbench", self.inner):
            self._entry()
            from robustbench.utils import load_model

            net = load_model(self.inner, self._folder(), dataset=self.dataset, threat_model=self.threat)
        return prepared(net, [0.0] * 3, [1.0] * 3)

    def architecture(self, spec: Spec) -> nn.Module:
        """The model without its weights: RobustBench's own class, or timm's where it has registered one there."""
        with ready("robustbench", self.inner):
            import timm

            made = self._entry()["model"]
            registered = "_".join((self.inner, self.dataset, self.threat)).lower().replace("-", "_")
            net = timm.create_model(registered, num_classes=spec.classes) if timm.is_model(registered) else made()
        return prepared(net, [0.0] * 3, [1.0] * 3)

    def _entry(self) -> Mapping[str, Any]:
        """What RobustBench's zoo says of the model."""
        _name_autoattack()
        from robustbench.model_zoo import model_dicts
        from robustbench.model_zoo.enums import BenchmarkDataset, ThreatModel

        known = model_dicts[BenchmarkDataset(self.dataset)][ThreatModel(self.threat)]
        if self.inner not in known:
            zoo = f"{self.dataset}, {self.threat}"
            raise UsageError(f"robustbench has no model {self.inner!r} for {zoo}; {nearest(self.inner, known)}")
        found: Mapping[str, Any] = known[self.inner]
        return found

    def _folder(self) -> Path:
        """RobustBench's `model_dir`: one that holds the checkpoint, or its parts `ID.pt_m0` and on; else a cache."""
        import torch

        cached, root = Path(torch.hub.get_dir()) / "robustbench", data_root()
        own = None if root is None else root / "robustbench"
        there = own is not None and any((own / self.dataset / self.threat).glob(f"{self.inner}.pt*"))
        return own if own is not None and there else cached


def _name_autoattack() -> None:
    """RobustBench 1.1.1 requires pyautoattack and imports it as `autoattack`, its name outside PyPI."""
    if importlib.util.find_spec("autoattack") is None and importlib.util.find_spec("pyautoattack") is not None:
        for inside in ("", ".state"):
            sys.modules[f"autoattack{inside}"] = importlib.import_module(f"pyautoattack{inside}")


def prepared(net: Any, mean: Any, std: Any, field: str | None = None) -> nn.Module:
    """A module that normalises and runs `net`; `field` names the logits where it gives a structure."""
    from testbed.models.nets.wrapped import Wrapped

    return Wrapped(net, tuple(map(float, mean)), tuple(map(float, std)), field)


#: Library -> what to write behind `pip install`.
PIP: Mapping[str, str] = {
    "timm": "'robustness-testbed[timm]'",
    "torchvision": "'robustness-testbed[torchvision]'",
    "transformers": "'robustness-testbed[transformers]'",
    "robustbench": "'robustness-testbed[robustbench]' (in an environment of its own: it pins timm==1.0.9)",
    "pkg_resources": "'setuptools<81'",
}


@contextmanager
def ready(library: str, name: str) -> Iterator[None]:
    """Inside, the library is imported and used; what goes wrong there fails this model only and says what to do."""
    try:
        yield
    except TestbedError:
        raise
    except ModuleNotFoundError as error:
        package = (error.name or library).partition(".")[0]
        raise MissingExtra(package, f"model '{library}:{name}'", PIP.get(package, package)) from None
    except RuntimeError as error:
        if "torchvision::" in str(error):
            raise DataError(
                "the installed torchvision was built for another torch (its operators are missing): install the one "
                "that matches, on a CPU with\n  pip install --force-reinstall --no-deps torchvision --index-url "
                "https://download.pytorch.org/whl/cpu"
            ) from None
        raise DataError(f"model '{library}:{name}': {_first(error)}") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"model '{library}:{name}' cannot be had: {_first(error)}. With no network, put the weights into the "
            "library's cache first, or name a file of them with `weights`"
        ) from None


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
