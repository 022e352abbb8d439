"""What each recipe minimises, against the formula of its paper."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from testbed.errors import UsageError
from testbed.models import recipes
from testbed.models.recipes.augmix import OPERATIONS, AugMix, operate
from testbed.models.recipes.base import Recipe
from testbed.models.recipes.free import Free
from testbed.models.recipes.label_smoothing import LabelSmoothing
from testbed.models.recipes.mixup import Mixup
from testbed.models.recipes.pgd_at import PgdAt
from testbed.models.recipes.trades import Trades


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(12, 1, 8, 8, generator=generator), torch.randint(0, 3, (12,), generator=generator)


def test_label_smoothing_by_hand(net, batch):
    x, y = batch
    target = 0.8 * F.one_hot(y, 3) + 0.2 / 3

    expected = -(target * net(x).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(LabelSmoothing(alpha=0.2).loss(net, x, y), expected)


def test_mixup_lies_between_its_ends_and_is_linear_in_the_labels(batch):
    x, y = batch
    seen = []
    probe = nn.Linear(64, 3)

    class Probe(nn.Module):
        def forward(self, x):
            seen.append(x)
            return probe(x.flatten(1))

    torch.manual_seed(3)
    loss = Mixup(alpha=0.7).loss(Probe(), x, y)
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(0.7, 0.7).sample())
    partner = torch.randperm(12)

    torch.testing.assert_close(seen[0], share * x + (1 - share) * x[partner])
    target = share * F.one_hot(y, 3) + (1 - share) * F.one_hot(y[partner], 3)
    torch.testing.assert_close(loss, -(target * probe(seen[0].flatten(1)).log_softmax(1)).sum(1).mean())


def test_pgd_at_trains_at_points_of_larger_loss_inside_the_ball(net, batch):
    x, y = batch
    seen = []
    net.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    loss = PgdAt(eps=0.1, alpha=0.02, steps=10).loss(net, x, y)

    assert len(seen) == 11
    assert all((z - x).abs().max() <= 0.1 + 1e-6 and z.min() >= 0 and z.max() <= 1 for z in seen)
    assert loss > F.cross_entropy(net(x), y) + 0.05


def test_trades_is_cross_entropy_plus_beta_times_a_divergence(net, batch):
    x, y = batch
    torch.manual_seed(0)
    moved = Trades(eps=0.1, alpha=0.02, steps=5).attacked(net.eval(), x)
    torch.manual_seed(0)
    loss = Trades(beta=3.0, eps=0.1, alpha=0.02, steps=5).loss(net, x, y)
    p, q = net(x).softmax(1), net(moved).softmax(1)

    assert net.training and (moved - x).abs().max() <= 0.1 + 1e-6
    apart = (p * (p / q).log()).sum(1).mean()
    torch.testing.assert_close(loss, F.cross_entropy(net(x), y) + 3 * apart)
    assert apart > 1e-3


def test_free_moves_its_perturbation_by_eps_a_replay_and_keeps_it(net, batch):
    x, y = batch
    recipe, memory, losses = Free(eps=0.1, m=4), {}, []
    for loss in recipe.losses(net, x, y, memory):
        loss.backward()
        losses.append(float(loss.detach()))

    assert len(losses) == 4 and losses[0] == float(F.cross_entropy(net(x), y).detach()) < losses[1]
    assert memory["delta"].abs().max() == pytest.approx(0.1)
    first = next(recipe.losses(net, x[:5], y[:5], memory))
    torch.testing.assert_close(first, F.cross_entropy(net((x + memory["delta"])[:5].clamp(0, 1)), y[:5]))


@pytest.mark.parametrize("channels", [1, 3])
def test_augmix_operations_keep_the_form_and_change_the_image(channels):
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(16), np.arange(16)).astype(np.uint8)[..., None] * 4 + 20
    image = np.repeat(ramp, channels, axis=2)

    for name in OPERATIONS:
        found = [operate(image, name, 10, rng) for _ in range(10)]
        assert all(out.shape == image.shape and out.dtype == np.uint8 for out in found)
        assert any((out != image).any() for out in found), name


def test_augmix_is_cross_entropy_plus_the_jensen_shannon_divergence(net, batch):
    x, y = batch
    recipe = AugMix()
    torch.manual_seed(0)
    views = [recipe.views(x), recipe.views(x)]
    torch.manual_seed(0)
    loss = recipe.loss(net, x, y)
    p = torch.stack([net(z).softmax(1) for z in (x, *views)])
    mean = p.mean(0)

    divergence = (p * (p / mean).log()).sum(2).mean()
    torch.testing.assert_close(loss, F.cross_entropy(net(x), y) + 12 * divergence)
    assert all(view.min() >= 0 and view.max() <= 1 and view.shape == x.shape for view in views)
    assert not torch.equal(*views)


def test_schedules_by_hand():
    times = (0.0, 0.4, 0.5, 0.75, 1.0)

    assert [Recipe(lr=1.0, schedule="cosine").rate(t) for t in times] == pytest.approx(
        [1, 0.654508, 0.5, 0.146447, 0], abs=1e-6
    )
    assert [Recipe(lr=1.0, schedule="step").rate(t) for t in times] == [1, 1, 0.1, 0.01, 0.01]
    assert Recipe(lr=1.0, schedule="constant").rate(0.9) == 1


def test_recipes_are_read_without_torch(run_python):
    read = "import sys; from testbed.models import recipes; [recipes.read(name) for name in recipes.RECIPES]"
    code = read + "; print('torch' in sys.modules)"

    assert run_python(code).stdout.strip() == "False"
    with pytest.raises(UsageError, match="did you mean 'trades'"):
        recipes.read("trade")
