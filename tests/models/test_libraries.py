"""Models of other libraries: told apart by name without importing them, and what is said where they are absent.

The libraries themselves are extras that the tests do not install: stand-ins with the few functions that are used show
what is asked of them; the real ones are used where they are there.
"""

import importlib.metadata
import sys
import types

import pytest
import torch
from torch import nn

from testbed import plugins
from testbed.errors import DataError, MissingExtra, UsageError
from testbed.grid.model import Model
from testbed.grid.model_sources import missing_packages, source_problems
from testbed.models import build
from testbed.models.classifier import Classifier
from testbed.models.libraries import ready
from testbed.types import Spec

SPEC = Spec("image", (16, 16, 3), 10)


def read(ref, **params):
    plugin = plugins.read("model", ref)
    return plugin.build(**plugin.validate(params))


def absent(name):
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return True
    return False


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


@pytest.fixture
def timm(monkeypatch):
    """A stand-in that notes what is made."""
    module = types.ModuleType("timm")
    module.made = []

    def create_model(name, pretrained, num_classes=1000):
        module.made.append((name, pretrained, num_classes))
        return Net(num_classes)

    module.create_model = create_model
    module.is_model = lambda name: name == "resnet18"
    module.list_models = lambda: ["resnet18", "resnet34"]
    module.data = types.SimpleNamespace(resolve_data_config=lambda _, model: {"mean": (0.5,) * 3, "std": (0.25,) * 3})
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_what_stands_behind_the_colon_is_the_model_and_its_library_is_in_the_digest():
    plugin = plugins.read("model", "timm:resnet18.a1_in1k")

    assert plugin.name == "resnet18.a1_in1k" and plugin.ref == "timm:resnet18.a1_in1k"
    assert plugin.identity()["packages"] == {"timm": plugins.installed_version("timm")}
    assert plugins.read("model", "transformers:org/name").name == "name"
    assert [p.name for p in plugins.read("model", "transformers:org/name").parameters] == ["pretrained", "revision"]
    assert "timm" not in sys.modules or not absent("timm")


def test_weights_are_fetched_once_and_the_architecture_needs_none(timm):
    model = read("timm:resnet18")
    build.module(model, Spec("image", (16, 16, 3), 1000))
    build.module(model, SPEC, bare=True)
    read("timm:resnet18", pretrained=False).build(SPEC)

    assert timm.made == [("resnet18", True, 1000), ("resnet18", False, 10), ("resnet18", False, 10)]


def test_the_models_own_normalisation_comes_first(timm):
    net = read("timm:resnet18", pretrained=False).build(SPEC)
    x = torch.rand(2, 3, 16, 16)

    torch.testing.assert_close(net(x), net.net((x - 0.5) / 0.25))
    assert Classifier(net, spec=SPEC).head() is not None


def test_an_unknown_name_has_the_nearest(timm):
    with pytest.raises(UsageError, match=r"timm has no model 'resnet81'; did you mean 'resnet18'"):
        read("timm:resnet81").build(SPEC)


def test_a_files_keys_go_below_the_wrapped_network(timm, tmp_path):
    from testbed.models import weights

    bare, model = Net(10), read("timm:resnet18", pretrained=False)
    weights.save(bare, tmp_path / "bare.safetensors")
    net = weights.load(model.build(SPEC), tmp_path / "bare.safetensors", model.key_map)

    assert torch.equal(net.net.head.weight, bare.head.weight)


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers", "robustbench"])
def test_an_absent_library_is_a_missing_extra_with_its_pip_line(library):
    if not absent(library):
        pytest.skip(f"{library} is installed")
    plugin = plugins.read("model", f"{library}:name")

    assert f"pip install 'robustness-testbed[{library}]'" in str(missing_packages(plugin))
    with pytest.raises(MissingExtra, match=rf"pip install 'robustness-testbed\[{library}\]'"):
        plugin.build(**plugin.validate({})).build(SPEC)


def test_a_library_without_a_model_is_a_problem():
    (problem,) = source_problems(Model(use="timm"), plugins.read("model", "timm"))

    assert problem[0] == "use" and "timm:NAME" in problem[1]


def test_a_torchvision_for_another_torch_says_what_to_install():
    with pytest.raises(DataError, match=r"download\.pytorch\.org/whl/cpu"), ready("torchvision", "resnet18"):
        raise RuntimeError("operator torchvision::nms does not exist")


def test_no_network_and_no_cache_is_said():
    with pytest.raises(DataError, match="cannot be had: no route"), ready("transformers", "org/name"):
        raise OSError("no route.")


@pytest.mark.parametrize(("ref", "features"), [("timm:resnet18", 512), ("torchvision:resnet18", 512)])
def test_the_real_libraries_give_logits_and_features(ref, features):
    pytest.importorskip(ref.partition(":")[0])
    model = Classifier(
        read(ref, pretrained=False).build(Spec("image", (64, 64, 3), 10)), spec=Spec("image", (64, 64, 3), 10)
    )
    logits, found = model.outputs(torch.rand(2, 3, 64, 64))

    assert logits.shape == (2, 10) and found.shape == (2, features)
