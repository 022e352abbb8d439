"""The classifier wrapper: features found or refused with a reason, eval mode, frozen, gradients to the input."""

import pytest
import torch
from torch import nn

from testbed import plugins
from testbed.errors import DataError, PluginViolation, UsageError
from testbed.models.build import module
from testbed.models.classifier import Classifier
from testbed.models.zoo import SmallCnn
from testbed.types import Spec

SPEC = Spec("image", (12, 10, 1), classes=4)
TABLE = Spec(
    "tabular", (5,), classes=4, dtype="float32", layout="f", bounds=tuple((0.0, float(i)) for i in range(1, 6))
)


def net(*tail, last=4):
    return nn.Sequential(nn.Flatten(), nn.Linear(120, 7), nn.ReLU(), nn.Dropout(0.5), nn.Linear(7, last), *tail)


def test_features_are_the_input_of_the_last_linear_layer():
    torch.manual_seed(0)
    model = Classifier(net(), spec=SPEC)
    x = torch.rand(6, 1, 12, 10)
    logits, features = model.outputs(x)
    weight, bias = model.head()

    assert model.feature_reason == "" and features.shape == (6, 7) and not logits.requires_grad
    torch.testing.assert_close(logits, features @ torch.tensor(weight).T + torch.tensor(bias))
    torch.testing.assert_close(logits, model.logits(x))
    assert model.outputs(x)[0].equal(logits)


def test_eval_mode_frozen_parameters_and_gradients_to_the_input():
    inner = net()
    inner.train()
    model = Classifier(inner, spec=SPEC)
    x = torch.rand(2, 1, 12, 10, requires_grad=True)
    model.logits(x).sum().backward()

    assert not inner.training and not any(p.requires_grad for p in inner.parameters())
    assert x.grad.abs().sum() > 0 and not inner._modules["1"]._forward_pre_hooks


@pytest.mark.parametrize(
    ("inner", "reason"),
    [
        (net(nn.LogSoftmax(1)), "the last linear layer '4' does not give the logits: something follows it"),
        (
            nn.Sequential(nn.Conv2d(1, 4, (12, 10)), nn.Flatten()),
            "no nn.Linear module runs in it, so there are no features",
        ),
    ],
)
def test_where_there_are_no_features_the_reason_is_said(inner, reason):
    model = Classifier(inner, spec=SPEC)

    assert model.outputs(torch.rand(2, 1, 12, 10))[1] is None
    assert model.head() is None and model.feature_reason == reason


def test_a_named_layer_gives_its_input():
    inner = net()
    model = Classifier(inner, "1", spec=SPEC)
    x = torch.rand(3, 1, 12, 10)

    assert model.outputs(x)[1].equal(x.flatten(1)) and model.head() is None
    assert Classifier(inner, "4", spec=SPEC).head() is not None
    with pytest.raises(UsageError, match="no such module"):
        Classifier(inner, "fc", spec=SPEC)


def test_wrong_number_of_classes_and_wrong_shape_are_errors():
    with pytest.raises(DataError, match="gives 9 classes, the data has 4"):
        Classifier(net(last=9), spec=SPEC)
    with pytest.raises(DataError, match=r"expected logits \[n k\], got \[2, 1, 12, 10\]"):
        Classifier(nn.Identity(), spec=SPEC)


def test_a_table_is_a_set_like_any_other():
    model = Classifier(nn.Sequential(nn.Linear(5, 4, bias=False)), spec=TABLE)

    assert model.outputs(torch.rand(2, 5))[1].shape == (2, 5) and (model.head()[1] == 0).all()


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (8, 8, 1), (33, 47, 3), (224, 224, 3)])
def test_small_cnn_takes_any_image(shape):
    spec = Spec("image", shape, classes=7)
    model = Classifier(SmallCnn().build(spec), spec=spec)

    assert model.outputs(torch.rand(2, *spec.model_shape))[1].shape == (2, 100)


def test_small_cnn_refuses_what_it_cannot_take():
    with pytest.raises(UsageError, match="takes images, not tabular"):
        SmallCnn().build(TABLE)
    with pytest.raises(UsageError, match="at least 4x4"):
        SmallCnn().build(Spec("image", (3, 9, 1), 2))


def test_a_users_file_is_a_model(tmp_path):
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "def make(spec, *, width: int = 3):\n"
        "    first, last = torch.nn.Linear(120, width), torch.nn.Linear(width, spec.classes)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), first, last)\n"
        "def wrong(spec):\n"
        "    return 5\n"
    )
    plugin = plugins.read("model", "./net.py:make", tmp_path)
    model = Classifier(module(plugin.build(**plugin.validate({"width": 9})), SPEC), spec=SPEC)

    assert model.outputs(torch.rand(1, 1, 12, 10))[1].shape == (1, 9)
    with pytest.raises(PluginViolation, match="gave a int"):
        module(plugins.read("model", "./net.py:wrong", tmp_path).build(), SPEC)
