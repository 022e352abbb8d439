"""The built-in networks: sizes published for them, the public checkpoints fit and give their measured accuracy."""

import os
from pathlib import Path

import pytest
import torch

from testbed import plugins
from testbed.data.base import data_root
from testbed.errors import DataError, UsageError
from testbed.models import weights
from testbed.models.build import module
from testbed.models.classifier import Classifier
from testbed.models.tensors import as_tensor
from testbed.models.zoo import CifarResNet, CrownResNet, KolterWong, LeNet5, PreActResNet18, SmallCnn, WideResNet
from testbed.types import Spec

GREY, RGB = Spec("image", (28, 28, 1), 10), Spec("image", (32, 32, 3), 10)
HERE = bool(os.environ.get("TESTBED_DATA")) and (Path(os.environ["TESTBED_DATA"]) / "weights").is_dir()
data = pytest.mark.skipif(not HERE, reason="TESTBED_DATA names no folder with weights/")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("model", "spec", "parameters", "features"),
    [
        (CifarResNet(20), RGB, 269_722, 64),
        (CifarResNet(32), RGB, 464_154, 64),
        (CifarResNet(110), RGB, 1_727_962, 64),
        (KolterWong(), GREY, 166_406, 100),
        (KolterWong("large"), GREY, 1_974_762, 512),
        (KolterWong("large"), RGB, 2_466_858, 512),
        (LeNet5(), GREY, 61_706, 84),
        (LeNet5("uncertainty"), GREY, 545_546, 84),
        (WideResNet(28, 10), RGB, 36_479_194, 640),
        (PreActResNet18("cifar10"), RGB, 11_172_170, 512),
        (CrownResNet("2b"), RGB, 112_006, 100),
        (CrownResNet("4b"), RGB, 123_734, 100),
    ],
    ids=str,
)
def test_networks_have_the_published_number_of_parameters(model, spec, parameters, features):
    built = model.build(spec)

    assert sum(p.numel() for p in built.parameters()) == parameters
    assert Classifier(built, spec=spec).outputs(torch.rand(2, *spec.model_shape))[1].shape == (2, features)


@pytest.mark.parametrize(
    ("model", "spec", "words"),
    [
        (CifarResNet(depth=21), RGB, "depth must be 6n . 2"),
        (WideResNet(depth=20), RGB, "depth must be 6n . 4"),
        (CrownResNet(), GREY, "takes images with 3 channels, the data has 1"),
        (CrownResNet(), Spec("image", (28, 28, 3), 10), "takes 32x32 images"),
        (LeNet5(), Spec("image", (8, 8, 1), 10), "at least 12x12"),
        (KolterWong(), Spec("image", (30, 28, 1), 10), "sides that are multiples of 4"),
        (SmallCnn(normalise="mnist"), RGB, "has 1 channels, the data has 3"),
    ],
    ids=repr,
)
def test_what_a_network_cannot_take_is_an_error(model, spec, words):
    with pytest.raises(UsageError, match=words):
        model.build(spec)


#: file -> (plug-in, parameters, data set, examples, right answers measured when the files were collected)
CHECKPOINTS = {
    "resnet20_cifar10": ("cifar_resnet", {"depth": 20}, "cifar10", 1017, 932),
    "resnet32_cifar10": ("cifar_resnet", {"depth": 32}, "cifar10", 1017, 944),
    "resnet44_cifar10": ("cifar_resnet", {"depth": 44}, "cifar10", 1017, 950),
    "resnet56_cifar10": ("cifar_resnet", {"depth": 56}, "cifar10", 1017, 943),
    "cifar10_resnet2b_adv_eps2": ("crown_resnet", {"variant": "2b"}, "cifar10", 1017, 716),
    "cifar10_resnet4b_adv_eps2": ("crown_resnet", {"variant": "4b"}, "cifar10", 1017, 786),
    "cifar10_cnn_a_adv": ("small_cnn", {"normalise": "cifar10_63"}, "cifar10", 1017, 678),
    "cifar10_cnn_a_adv4": ("small_cnn", {"normalise": "cifar10_63"}, "cifar10", 1017, 587),
    "cifar10_cnn_a_mix4": ("small_cnn", {"normalise": "cifar10_63"}, "cifar10", 1017, 708),
    "mnist_kw_small_eps0.1": ("small_cnn", {}, "mnist", 10_000, 9820),
    "mnist_kw_scaled_small_eps0.3": ("small_cnn", {}, "mnist", 10_000, 8523),
    "mnist_cnn_a_adv": ("small_cnn", {}, "mnist", 10_000, 9633),
    "fashion_mnist_kw_small_eps0.1": ("small_cnn", {}, "fashion_mnist", 10_000, 7827),
}
DEEP = ("resnet32_cifar10", "resnet44_cifar10", "resnet56_cifar10")


@data
@pytest.mark.data
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in DEEP else ()) for n in CHECKPOINTS])
def test_public_checkpoints_fit_and_give_their_accuracy(name):
    use, params, dataset, n, right = CHECKPOINTS[name]
    test = plugins.read("dataset", dataset).build().load("test")
    plugin = plugins.read("model", use).build(**params)
    model = Classifier(module(plugin, test.spec, data_root() / "weights" / f"{name}.safetensors"), spec=test.spec)
    with torch.inference_mode():
        found = torch.cat([model.logits(x).argmax(1) for x in as_tensor(test.x, test.spec).split(500)])

    assert len(test) == n
    assert abs(int((found == torch.from_numpy(test.y)).sum()) - right) <= 1
    assert model.head() is not None


@data
@pytest.mark.data
def test_a_public_kolter_wong_checkpoint_gives_the_same_logits_in_both_nets_that_take_it():
    file = data_root() / "weights" / "mnist_kw_small_eps0.1.safetensors"
    nets = [module(plugin, GREY, file).eval() for plugin in (KolterWong(), SmallCnn())]
    x = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    torch.testing.assert_close(nets[0](x), nets[1](x))


def test_the_unused_stage_of_trades_checkpoints_is_left_out(tmp_path):
    net = WideResNet(10, 1).build(RGB)
    extra = {f"sub_block1.{key}": value for key, value in net.block1.state_dict().items()}
    weights.write({**net.state_dict(), **extra}, tmp_path / "trades.safetensors")
    other = module(WideResNet(10, 1), RGB, tmp_path / "trades.safetensors")

    assert torch.equal(other.fc.weight, net.fc.weight)


@data
@pytest.mark.data
def test_a_checkpoint_of_another_depth_names_the_keys():
    with pytest.raises(
        DataError, match=r"do not fit CifarResNet(.|\n)*'layer1\.3\.conv1\.weight': in the file, not in the model"
    ):
        weights.load(CifarResNet(20).build(RGB), data_root() / "weights" / "resnet32_cifar10.safetensors")
