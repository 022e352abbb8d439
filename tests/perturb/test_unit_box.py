"""Attacks where the bounds are not [0, 1]: eps is a share of each feature's range, categories stay."""

import numpy as np
import torch

from testbed import plugins
from testbed.perturb.attack import Attack, bind
from testbed.perturb.unit import UnitBox, at_rest, needed
from testbed.types import Spec

TABLE = Spec("tabular", (3,), 2, "float32", "f", ((0.0, 100.0), (0.0, 3.0), (-1.0, 1.0)), categorical=(1,))


def test_entering_and_leaving_is_the_identity_and_unmoved_values_are_exact():
    box = UnitBox.of(torch.nn.Identity(), TABLE)
    x = torch.rand(50, 3) * torch.tensor([100.0, 3.0, 2.0]) - torch.tensor([0.0, 0.0, 1.0])

    assert torch.allclose(box.leave(box.enter(x)), x, atol=1e-5)
    assert torch.equal(box.restored(box.enter(x), x), x)


def test_fgsm_moves_numbers_by_a_share_of_their_range_and_no_category():
    weight = torch.tensor([[0.01, 1.0, 1.0], [-0.01, -1.0, -1.0]])
    box = UnitBox.of(lambda x: x @ weight.T, TABLE)
    x = torch.tensor([[50.0, 2.0, 0.0], [40.0, 1.0, 0.5]])
    plugin = plugins.read("attack", "fgsm")
    attack = Attack(plugin, bind(plugin, {}, "linf", 0.1), "linf", 0.1, fixed=TABLE.categorical)
    moved = box.restored(attack(box, box.enter(x), torch.tensor([0, 0])), x)

    # by hand: the margin falls with every feature, so each number loses a tenth of its range, 10 and 0.2
    assert torch.allclose(moved, torch.tensor([[40.0, 2.0, -0.2], [30.0, 1.0, 0.3]]), atol=1e-5)


def test_images_need_no_box_and_series_are_kept_time_first():
    series = Spec("series", (4, 2), 3, "float32", "tc", ((-1.0, 1.0),))
    x = np.arange(8, dtype=np.float32).reshape(1, 4, 2)

    assert needed(series) and not needed(Spec("image", (4, 4, 1), 10))
    assert (at_rest(torch.from_numpy(x.transpose(0, 2, 1).copy()), series) == x).all()
