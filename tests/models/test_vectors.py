"""Networks for tables and series: what the first layer does to a column, published sizes, errors."""

import pytest
import torch

from testbed.errors import UsageError
from testbed.models.classifier import Classifier
from testbed.models.nets.vectors import Columns
from testbed.models.vectors import Cnn1d, Mlp
from testbed.types import Spec

TABLE = Spec("tabular", (3,), 2, "float32", "f", ((0.0, 10.0), (0.0, 2.0), (-1.0, 1.0)), categorical=(1,))
SERIES = Spec("series", (40, 1), 10, "float32", "tc", ((-5.0, 5.0),))


def test_columns_scale_numbers_and_unfold_categories():
    layer = Columns(TABLE).eval()
    given = torch.tensor([[0.0, 2.0, 0.5], [float("nan"), 0.4, -1.0]])

    # by hand: 0 of [0, 10] is -1, NaN is the middle 0; code 2 is the third of three, 0.4 rounds to the first
    wanted = torch.tensor([[-1.0, 0.5, 0, 0, 1], [0.0, -1.0, 1, 0, 0]])
    assert torch.allclose(layer(given), wanted, atol=1e-4)  # batch norm's eps


def test_categories_have_no_gradient_and_numbers_have():
    net = Mlp(hidden=(8,)).build(TABLE).eval()
    x = torch.tensor([[3.0, 1.0, 0.2]], requires_grad=True)
    net(x)[0, 0].backward()

    assert x.grad[0, 1] == 0 and (x.grad[0, [0, 2]] != 0).all()


def test_the_series_network_has_the_published_size_and_features():
    net = Cnn1d().build(SERIES)

    assert sum(p.numel() for p in net.parameters()) == 5210
    assert Classifier(net, spec=SERIES).outputs(torch.rand(2, 1, 40))[1].shape == (2, 125)


@pytest.mark.parametrize("spec", [TABLE, SERIES, Spec("image", (5, 4, 3), 7)], ids=lambda s: s.kind)
def test_the_perceptron_takes_every_kind(spec):
    found = Classifier(Mlp((16, 9)).build(spec), spec=spec).outputs(torch.rand(3, *spec.model_shape))

    assert found[0].shape == (3, spec.classes) and found[1].shape == (3, 9)


@pytest.mark.parametrize(
    ("model", "spec", "words"),
    [
        (Mlp(hidden=()), TABLE, "one layer of one unit at least"),
        (Cnn1d(), TABLE, "takes series, not tabular"),
        (Cnn1d(), Spec("series", (4, 1), 2, "float32", "tc"), "at least 8 points, the data has 4"),
    ],
)
def test_what_a_network_cannot_take_is_an_error(model, spec, words):
    with pytest.raises(UsageError, match=words):
        model.build(spec)
