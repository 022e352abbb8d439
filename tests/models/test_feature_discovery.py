"""Features of nets of timm and transformers are found as of any other: the input of the layer that gives the logits.

Random weights, so nothing is fetched. Both libraries are extras; where one is absent, or its torchvision was built for
another torch, its tests skip and say so.
"""

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest
import torch

from testbed.models.classifier import Classifier
from testbed.types import Spec


def library(name):
    """The module, with the part of torchvision stubbed that a torch without CUDA cannot register."""
    if importlib.util.find_spec("torchvision"):
        sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be imported here: {error}")


def check(module, size):
    classifier = Classifier(module, spec=Spec("image", (size, size, 3), 10))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits, features = classifier.outputs(torch.rand(2, 3, size, size))
    weight, bias = classifier.head()
    np.testing.assert_allclose(features.numpy() @ weight.T + bias, logits.numpy(), rtol=1e-4, atol=1e-4)
    return features


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet18", 64), ("densenet121", 64), ("mobilenetv3_small_050", 64), ("efficientnet_b0", 64),
        ("convnext_atto", 64), ("regnetx_002", 64), ("mobilevit_xxs", 64), ("vit_tiny_patch16_224", 224),
        ("mixer_s16_224", 224), ("swin_tiny_patch4_window7_224", 224),
    ],
)  # fmt: skip
def test_nets_of_timm(name, size):
    module = library("timm").create_model(name, pretrained=False, num_classes=10).eval()
    features = check(module, size)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        own = module.forward_head(module.forward_features(torch.rand(2, 3, size, size)), pre_logits=True)
    torch.testing.assert_close(features, own)


def test_a_net_that_averages_two_heads_has_no_features_and_says_so():
    module = library("timm").create_model("levit_128s", pretrained=False, num_classes=10)
    classifier = Classifier(module, spec=Spec("image", (224, 224, 3), 10))
    assert classifier.head() is None and "something follows it" in classifier.feature_reason


class Logits(torch.nn.Module):
    """Only the logits of a transformers model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(pixel_values=x).logits


SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 8}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("ViTConfig", {"hidden_size": 32, **SMALL}),
        ("BeitConfig", {"hidden_size": 32, **SMALL}),
        ("ResNetConfig", {"embedding_size": 16, "hidden_sizes": [16, 32], "depths": [1, 1], "layer_type": "basic"}),
        ("ConvNextConfig", {"hidden_sizes": [16, 32], "depths": [1, 1], "num_stages": 2}),
        (
            "SwinConfig",
            {
                "image_size": 32,
                "patch_size": 4,
                "embed_dim": 24,
                "depths": [1, 1],
                "num_heads": [2, 2],
                "window_size": 4,
            },
        ),
    ],
)
def test_nets_of_transformers(name, sizes):
    transformers = library("transformers")
    config = getattr(transformers, name)(num_labels=10, **sizes)
    try:
        inner = transformers.AutoModelForImageClassification.from_config(config).eval()
    except ModuleNotFoundError as error:
        pytest.skip(f"transformers cannot import this net here: {error}")
    check(Logits(inner), 32)
