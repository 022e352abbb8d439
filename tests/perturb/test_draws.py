"""`draws` is the key of a plug-in's random numbers, `version` is in its digest: one may change without the other."""

import dataclasses

import numpy as np
import pytest
import torch

import testbed
from testbed import plugins
from testbed.perturb.shift import Shift
from testbed.seeding import Rng, shard_seed

#: Draws of the built-ins that are not 1. A change here changes numbers, and must come with a new version.
DRAWS = {
    "autoattack": "5/1", "autoattack_fast": 2, "boundary": 2, "calibration_attack": "1/1", "calibration_square": "1/1",
    "cw": 2, "ddn": 2, "deepfool": 2, "ead": 2, "fab": 4, "fmn": 2, "hopskipjump": 2, "square": 3,
}  # fmt: skip


def bumped(plugin):
    return dataclasses.replace(plugin, facts={**plugin.facts, "version": "99/7"})


def net(x):
    return x.flatten(1) @ torch.linspace(-1, 1, 192).reshape(64, 3)


def test_the_draws_of_built_ins_are_what_they_were():
    for kind in ("attack", "shift", "dataset"):
        for name in plugins.names(kind):
            found = plugins.read(kind, name).facts["draws"]
            assert found == (DRAWS.get(name, 1) if kind == "attack" else 1), name


@pytest.mark.parametrize("name", ["pgd", "foolbox:LinfAdditiveUniformNoiseAttack"])
def test_a_new_version_of_an_attack_keeps_its_draws(name):
    plugin = plugins.read("attack", name)
    assert bumped(plugin).identity() != plugin.identity()
    x = torch.full((6, 1, 8, 8), 0.5)
    y = net(x).argmax(1)
    attack = testbed.attack(name, norm="linf", eps=0.1)
    both = attack, dataclasses.replace(attack, plugin=bumped(plugin))
    first, second = (one(net, x, y, ids=np.arange(6), seed=0) for one in both)
    assert torch.equal(first, second) and not torch.equal(first, x)


def test_a_new_version_of_a_shift_keeps_its_draws():
    plugin = plugins.read("shift", "gaussian_noise")
    images = np.full((2, 32, 32, 3), 128, np.uint8)
    both = [Shift(one, one.validate({"severity": 3.0})) for one in (plugin, bumped(plugin))]
    first, second = (one(images, ids=np.arange(2), seed=0) for one in both)
    assert np.array_equal(first, second) and not np.array_equal(first, images)


def test_other_draws_are_other_numbers():
    assert not np.array_equal(Rng("pgd", 1, 0, [7]).uniform(4), Rng("pgd", 2, 0, [7]).uniform(4))
    assert shard_seed("pgd", "1/2", 0, [1]) != shard_seed("pgd", "1/3", 0, [1])
