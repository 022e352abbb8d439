"""Black boxes: scores checked and turned into logits, ONNX files against the same weights in numpy, no gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from testbed.errors import DataError, UsageError
from testbed.models import outside, weights
from testbed.models.black_box import Answer, BlackBox, as_logits
from testbed.models.classifier import Classifier
from testbed.types import Spec

FILES = Path(__file__).parent / "files"
SPEC = Spec("image", (8, 8, 1), classes=10)


def images(n=11):
    return np.random.default_rng(0).random((n, 1, 8, 8), dtype=np.float32)


def by_hand(x):
    w = {name: value.astype(np.float64) for name, value in load_file(FILES / "tiny_digits.safetensors").items()}
    hidden = np.maximum(x.reshape(len(x), -1) @ w["a.weight"].T + w["a.bias"], 0)
    return hidden @ w["b.weight"].T + w["b.bias"], hidden


def onnx(name="tiny_digits.onnx", spec=SPEC, **params):
    return weights.load(outside.Onnx(**params).build(spec), FILES / name)


@pytest.mark.parametrize("name", ["tiny_digits.onnx", "tiny_digits_fixed.onnx"])
def test_an_onnx_file_gives_what_its_weights_give(name):
    logits, features = Classifier(onnx(name, features="features"), spec=SPEC).outputs(torch.from_numpy(images()))
    expected_logits, expected_features = by_hand(images())

    np.testing.assert_allclose(logits, expected_logits, atol=1e-5)
    np.testing.assert_allclose(features, expected_features, atol=1e-5)


def test_without_a_named_output_there_are_no_features_and_no_head():
    model = Classifier(onnx(), spec=SPEC)

    assert model.outputs(torch.from_numpy(images()))[1] is None
    assert model.head() is None and "black box" in model.feature_reason


def test_the_state_of_an_onnx_net_is_the_file():
    net = onnx()
    again = outside.Onnx().build(SPEC)
    again.load_state_dict(net.state_dict())

    assert net.state_dict()["onnx"].numpy().tobytes() == (FILES / "tiny_digits.onnx").read_bytes()
    assert torch.equal(again(torch.from_numpy(images())), net(torch.from_numpy(images())))


def test_a_gradient_through_a_black_box_is_an_error():
    x = torch.from_numpy(images()).requires_grad_()

    with pytest.raises(DataError, match="gives no gradients"):
        onnx()(x).sum().backward()


def test_what_does_not_fit_an_onnx_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"takes inputs of shape \['n', 1, 8, 8\], the data gives \['n', 1, 9, 8\]"):
        onnx()(torch.zeros(2, 1, 9, 8))
    with pytest.raises(DataError, match="gives 10 classes, the data has 12"):
        onnx(spec=Spec("image", (8, 8, 1), classes=12))(torch.zeros(2, 1, 8, 8))
    with pytest.raises(UsageError, match=r"no output 'featurs'; did you mean 'features'"):
        onnx(features="featurs")(torch.zeros(2, 1, 8, 8))
    with pytest.raises(UsageError, match=r"needs? .*no file|has no file"):
        outside.Onnx().build(SPEC)(torch.zeros(2, 1, 8, 8))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((FILES / "tiny_digits.onnx").read_bytes()[:500])
    with pytest.raises(DataError, match="not an ONNX model that stands alone"):
        weights.load(outside.Onnx().build(SPEC), broken)
    with pytest.raises(DataError, match=r"'a\.weight': in the file, not in the model"):
        weights.load(outside.Onnx().build(SPEC), FILES / "tiny_digits.safetensors")


def test_probabilities_become_their_logarithms():
    p = np.array([[0.2, 0.8], [1.0, 0.0]])
    logits = as_logits(p, 2, 2, "probs", "toy")

    np.testing.assert_allclose(torch.from_numpy(logits).double().softmax(1), p, atol=1e-7)


@pytest.mark.parametrize(
    ("found", "kind", "says"),
    [
        ([[1.0, 2.0, 3.0]], "logits", "gives 3 classes, the data has 2"),
        ([[1.0, 2.0], [1.0, 2.0]], "logits", r"shape \[1, 2\], got \[2, 2\]"),
        ([[1.0, float("nan")]], "logits", "1 of 1 rows of scores are not finite"),
        ([[-1.0, 2.0]], "probs", "no probabilities"),
        ([[0.5, 0.6]], "probs", r"a row sums to 1\.1"),
        ([["a", "b"]], "logits", "rows of 2 numbers"),
    ],
)
def test_scores_that_are_none_are_refused(found, kind, says):
    with pytest.raises(DataError, match=says):
        as_logits(found, 1, 2, kind, "toy")


def test_a_box_of_ones_own_needs_only_query():
    class Sums(BlackBox):
        def query(self, x):
            total = x.reshape(len(x), -1).sum(1, keepdims=True)
            return Answer(np.hstack([total, -total]), total)

    logits, features = Sums("sums", 2).both(torch.ones(3, 1, 2, 2))

    assert logits.tolist() == [[4.0, -4.0]] * 3 and features.tolist() == [[4.0]] * 3
