"""Training: same bits every time, resumed or not, killed or not; recipes do what their papers say."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from testbed.data.packaged import Digits, Mnist5k
from testbed.data.splits import materialise, split_plan
from testbed.errors import DataError, UsageError
from testbed.models import recipes
from testbed.models.recipes.fgsm_rs import FgsmRs
from testbed.models.tensors import as_tensor
from testbed.models.train import crop_flip, train
from testbed.models.zoo import SmallCnn
from testbed.types import Examples, Spec


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def few() -> Examples:
    return Digits().load("all").take(slice(0, 203))


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class WithNormAndDropout(nn.Module):
    """Batch norm has buffers and dropout draws: both must survive a resumption."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 10)
        )

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("recipe", sorted(recipes.RECIPES))
def test_resumed_training_equals_undisturbed_training_bit_for_bit(recipe, optimizer, tmp_path):
    params, file = {"optimizer": optimizer, "lr": 1e-3, "augment": "crop_flip"}, tmp_path / "c.safetensors"
    whole = train(recipe, params, WithNormAndDropout, few(), seed=3, epochs=3)

    class Stop(Exception):
        pass

    def stop(epoch: int, loss: float) -> None:
        if epoch == 1:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, params, WithNormAndDropout, few(), seed=3, epochs=3, checkpoint=file, after_epoch=stop)
    finished = []
    resumed = train(
        recipe,
        params,
        WithNormAndDropout,
        few(),
        seed=3,
        epochs=3,
        checkpoint=file,
        after_epoch=lambda e, _: finished.append(e),
    )

    assert finished == [2, 3]
    assert same(whole, resumed)


def test_a_set_in_shards_trains_to_the_bits_of_the_whole_and_shares_its_checkpoint(tmp_path):
    whole, file, finished = few(), tmp_path / "c.safetensors", []
    shards = [whole.take(slice(start, stop)) for start, stop in ((0, 60), (60, 61), (61, 203))]
    asked = {"seed": 1, "epochs": 2, "checkpoint": file, "after_epoch": lambda epoch, _: finished.append(epoch)}
    one = train("standard", {}, SmallCnn().build, shards, **asked)

    assert same(one, train("standard", {}, SmallCnn().build, whole, seed=1, epochs=2))
    assert same(one, train("standard", {}, SmallCnn().build, whole, **asked)) and finished == [1, 2]


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path):
    code = """
        import os, signal, sys, torch
        torch.set_num_threads(1)
        from testbed.data.packaged import Digits
        from testbed.models.train import train
        from testbed.models.zoo import SmallCnn
        die = lambda epoch, loss: epoch == 1 and os.kill(os.getpid(), signal.SIGKILL)
        few = Digits().load("all").take(slice(0, 203))
        train("standard", {}, SmallCnn().build, few, seed=1, epochs=3, checkpoint=sys.argv[1], after_epoch=die)
    """
    file = tmp_path / "c.safetensors"
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(file)], env={**os.environ, "OMP_NUM_THREADS": "1"}
    )

    assert run.returncode == -signal.SIGKILL and file.is_file()
    whole = train("standard", {}, SmallCnn().build, few(), seed=1, epochs=3)
    assert same(whole, train("standard", {}, SmallCnn().build, few(), seed=1, epochs=3, checkpoint=file))


def test_seed_decides_and_the_callers_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a = train("standard", {}, SmallCnn().build, few(), seed=0, epochs=1)

    assert torch.equal(torch.rand(3), expected)
    assert same(a, train("standard", {}, SmallCnn().build, few(), seed=0, epochs=1))
    assert not same(a, train("standard", {}, SmallCnn().build, few(), seed=1, epochs=1))


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    file = tmp_path / "c.safetensors"
    train("standard", {}, SmallCnn().build, few(), seed=0, epochs=1, checkpoint=file)

    with pytest.raises(DataError, match="of another training"):
        train("standard", {"lr": 1e-4}, SmallCnn().build, few(), seed=0, epochs=1, checkpoint=file)
    with pytest.raises(DataError, match="of another network"):
        train("standard", {}, SmallCnn(hidden=50).build, few(), seed=0, epochs=1, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="damaged"):
        train("standard", {}, SmallCnn().build, few(), seed=0, epochs=1, checkpoint=file)


def test_bad_input_is_an_error():
    with pytest.raises(UsageError, match="train split is empty"):
        train("standard", {}, SmallCnn().build, few().take(slice(0, 0)), seed=0, epochs=1)
    with pytest.raises(UsageError, match="epochs: expected at least 1"):
        train("standard", {}, SmallCnn().build, few(), seed=0, epochs=0)
    with pytest.raises(UsageError, match="did you mean 'standard'"):
        train("standrad", {}, SmallCnn().build, few(), seed=0, epochs=1)
    with pytest.raises(DataError, match="training diverged"):
        train("standard", {"lr": 1e30, "schedule": "constant"}, SmallCnn().build, few(), seed=0, epochs=2)


@pytest.mark.slow
def test_small_cnn_learns_digits_and_fgsm_rs_makes_it_robust():
    mnist = Mnist5k()
    plan = split_plan(mnist.sizes(), calibration=700, test=800)
    training, test = materialise(mnist, plan["train"], 0), materialise(mnist, plan["test"], 0)
    x, y = as_tensor(test.x, test.spec), torch.from_numpy(test.y)
    right = {}
    for recipe in ("standard", "fgsm_rs"):
        model = SmallCnn().build(test.spec)
        model.load_state_dict(train(recipe, {}, SmallCnn().build, training, seed=0, epochs=8))
        moved = x.clone().requires_grad_(True)
        torch.nn.functional.cross_entropy(model(moved), y).backward()
        attacked = (x + 0.2 * moved.grad.sign()).clamp(0, 1)
        right[recipe] = [float((model(z).argmax(1) == y).float().mean()) for z in (x, attacked)]

    assert len(training) == 3500 and right["standard"][0] > 0.95 and right["fgsm_rs"][0] > 0.93
    assert right["fgsm_rs"][1] > right["standard"][1] + 0.3


def test_fgsm_rs_trains_on_points_inside_the_ball_and_the_box():
    seen = []

    class Probe(nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return x.flatten(1) @ torch.eye(16)[:, :3]

    x = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    FgsmRs(eps=0.1, alpha=1.25).loss(Probe(), x, torch.zeros(8, dtype=torch.int64))
    start, moved = seen

    for point in (start, moved):
        assert (point - x).abs().max() <= 0.1 + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1
    step = (moved - start)[:, 0, 0, 0]
    inside = ((moved - x).abs()[:, 0, 0, 0] < 0.1 - 1e-6) & (moved[:, 0, 0, 0] > 0)
    torch.testing.assert_close(step[inside], torch.full_like(step[inside], -0.125))


def test_crop_flip_moves_and_mirrors_within_the_padding():
    torch.manual_seed(0)
    x = torch.arange(1.0, 37.0).view(1, 1, 6, 6).repeat(400, 1, 1, 1)
    out = crop_flip(x, padding=2)
    padded = nn.functional.pad(x[:1], (2,) * 4)[0, 0]
    crops = [padded[i : i + 6, j : j + 6] for i in range(5) for j in range(5)]
    allowed = {image.contiguous().numpy().tobytes() for crop in crops for image in (crop, crop.flip(1))}

    assert {image[0].contiguous().numpy().tobytes() for image in out} == allowed and len(allowed) == 50
