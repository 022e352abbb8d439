"""Models of other libraries: told apart by name without importing them, and what is said where they are absent.

The libraries themselves are extras that the tests do not install: stand-ins with the few functions that are used show
what is asked of them; the real ones are used where they are there.
"""

import enum
import importlib.metadata
import sys
import types

import numpy as np
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


@pytest.fixture
def robustbench(monkeypatch, timm):
    """A stand-in with one model in its zoo; `loaded` notes what load_model is asked for."""
    names = ("robustbench", "robustbench.utils", "robustbench.model_zoo", "robustbench.model_zoo.enums")
    package, utils, zoo, enums = (types.ModuleType(name) for name in names)
    enums.BenchmarkDataset = enum.Enum("BenchmarkDataset", {"cifar_10": "cifar10", "cifar_100": "cifar100"})
    enums.ThreatModel = enum.Enum("ThreatModel", {"Linf": "Linf", "L2": "L2"})
    zoo.model_dicts = {d: {t: {} for t in enums.ThreatModel} for d in enums.BenchmarkDataset}
    linf = zoo.model_dicts[enums.BenchmarkDataset.cifar_10][enums.ThreatModel.Linf]
    linf["Small2020"] = {"model": lambda: Net(10), "gdrive_id": "x"}
    package.loaded = []

    def load_model(name, model_dir, dataset, threat_model):
        package.loaded.append((name, str(model_dir), dataset, threat_model))
        return Net(10)

    utils.load_model = load_model
    for name, module in zip(names, (package, utils, zoo, enums), strict=True):
        monkeypatch.setitem(sys.modules, name, module)
    return package


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


def test_robustbench_loads_a_local_copy_where_there_is_one_and_a_bare_network_without(
    robustbench, monkeypatch, tmp_path
):
    monkeypatch.setenv("TESTBED_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    model = read("robustbench:Small2020")
    built = model.build(SPEC)
    folder = tmp_path / "data" / "robustbench" / "cifar10" / "Linf"
    folder.mkdir(parents=True)
    (folder / "Small2020.pt").touch()
    model.build(SPEC)
    bare = model.architecture(SPEC)

    cached, own = tmp_path / "torch" / "hub" / "robustbench", tmp_path / "data" / "robustbench"
    assert robustbench.loaded == [("Small2020", str(root), "cifar10", "Linf") for root in (cached, own)]
    bare.load_state_dict(built.state_dict())
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(bare(x), built(x)) and torch.equal(built(x), built.net(x))


def test_an_id_that_robustbench_does_not_know_has_the_nearest(robustbench):
    with pytest.raises(UsageError, match=r"no model 'Small2021' for cifar10, Linf; did you mean 'Small2020'"):
        read("robustbench:Small2021").build(SPEC)
    with pytest.raises(UsageError, match="no model 'Small2020' for cifar10, L2"):
        read("robustbench:Small2020", threat="L2").architecture(SPEC)


@pytest.mark.slow
@pytest.mark.skipif(absent("robustbench"), reason="robustbench is not installed: it needs an environment of its own")
def test_the_real_robustbench_runs_in_a_grid_from_a_local_checkpoint(monkeypatch, tmp_path):
    """The weights are random, in the layout of the published checkpoint."""
    import testbed

    monkeypatch.setenv("TESTBED_DATA", str(tmp_path))
    model, spec = read("robustbench:Wong2020Fast"), Spec("image", (32, 32, 3), 10)
    net = model.architecture(spec)
    folder = tmp_path / "robustbench" / "cifar10" / "Linf"
    folder.mkdir(parents=True)
    torch.save(net.net.state_dict(), folder / "Wong2020Fast.pt")
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), dtype=np.uint8)
    with torch.no_grad():
        labels = net.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255))).argmax(1).numpy()
    np.savez(tmp_path / "noise.npz", images=images, labels=labels)
    grid = {
        "name": "zoo",
        "data": [{"use": "npz", "path": "noise.npz", "classes": 10, "calibration": 10, "test": 8}],
        "models": [{"use": "robustbench:Wong2020Fast", "name": "wong"}],
        "conditions": ["clean", {"attack": {"use": "pgd", "steps": 3}, "eps": 8 / 255}],
        "detectors": [{"use": "knn", "k": 5}],
        "ood": [{"use": "uniform", "limit": 8}],
        "metrics": ["accuracy", "nll", "auroc"],
    }
    rows = testbed.evaluate(grid, out=tmp_path / "run", store=tmp_path / "store", executor="serial").to_pylist()

    assert rows and {row["status"] for row in rows} == {"ok"}, {row["error"] for row in rows}
    assert torch.equal(model.build(spec).net.linear.weight, net.net.linear.weight)
    (clean,) = (row["value"] for row in rows if (row["metric"], row["condition"]) == ("accuracy", "clean"))
    nll = {row["condition"]: row["value"] for row in rows if row["metric"] == "nll"}
    assert clean == 1 and nll["pgd"] > nll["clean"]
