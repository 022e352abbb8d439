"""What a calibrator must not change in a detector, what it must, and what else leaves scores or ranks alone."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from testbed import plugins
from testbed.detection import similarity
from testbed.detection.base import FitWarning
from testbed.detection.together import score_all
from testbed.metrics.ood import auroc
from testbed.types import Outputs

#: Every detector of cached outputs that has defaults for all its parameters and needs no extra.
NAMES = [
    name
    for name in plugins.installed("detector")
    if name not in ("weighted_energy", "knn_faiss") and "inputs" not in plugins.read("detector", name).facts["consumes"]
]
SMALL = {"knn": {"k": 10}, "nnguide": {"k": 10, "share": 0.2}}


def scores(name, train, test):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        return plugins.read("detector", name).build(**SMALL.get(name, {})).fit(train).score(test)


def ranks(values):
    return np.unique(values, return_inverse=True)[1]


def scaled(outputs, temperature):
    """The same model with its last layer divided by T, as temperature scaling leaves it."""
    return replace(
        outputs,
        logits=outputs.logits.astype(np.float64) / temperature,
        head_weight=outputs.head_weight.astype(np.float64) / temperature,
        head_bias=outputs.head_bias.astype(np.float64) / temperature,
    )


@pytest.mark.parametrize("temperature", [0.4, 3.0])
@pytest.mark.parametrize(
    "name", ["maxlogit", "knn", "mahalanobis", "rmds", "gmm", "residual", "cop", "corp", "cfood", "fdbd", "she"]
)
def test_temperature_leaves_these_ranks_alone(name, temperature, world) -> None:
    """ViM has an energy term, so its ranks move; its residual term does not (the origin W^+ b is the same)."""
    before = scores(name, world.train, world.ood)
    after = scores(name, scaled(world.train, temperature), scaled(world.ood, temperature))
    np.testing.assert_array_equal(
        ranks(np.round(after / np.abs(after).max(), 9)), ranks(np.round(before / np.abs(before).max(), 9))
    )


@pytest.mark.parametrize("name", ["msp", "energy", "entropy", "gen", "gradnorm", "grad_uncertainty"])
def test_temperature_changes_these_ranks(name, world) -> None:
    both = Outputs(
        np.concatenate([world.test.logits, world.ood.logits]), np.concatenate([world.test.features, world.ood.features])
    )
    cooled = replace(both, logits=both.logits / 5.0)
    assert (ranks(scores(name, world.train, both)) != ranks(scores(name, world.train, cooled))).any()


@pytest.mark.parametrize("name", ["msp", "entropy", "gen"])
@pytest.mark.parametrize("temperature", [0.1, 7.0])
def test_two_class_probability_scores_do_not_see_temperature(name, temperature) -> None:
    """With two classes each is a decreasing function of |f_1 - f_2|."""
    logits = np.random.default_rng(0).normal(0, 8, (300, 2))
    before = plugins.read("detector", name).build().score(Outputs(logits))
    after = plugins.read("detector", name).build().score(Outputs(logits / temperature))
    np.testing.assert_array_equal(ranks(before), ranks(after))


def test_adding_a_constant_to_all_logits() -> None:
    """Softmax scores do not move; MaxLogit and Energy move by the constant."""
    logits = np.random.default_rng(1).normal(size=(50, 6))
    for name, shift in [("msp", 0), ("entropy", 0), ("gen", 0), ("maxlogit", -3), ("energy", -3)]:
        detector = plugins.read("detector", name).build()
        moved = detector.score(Outputs(logits + 3.0)) - detector.score(Outputs(logits))
        np.testing.assert_allclose(moved, shift, atol=1e-12)


@pytest.mark.parametrize("name", ["knn", "cfood", "cop", "corp", "mcm", "pnml", "relation"])
def test_scale_of_each_feature_vector_does_not_matter_on_the_sphere(name, world) -> None:
    def stretched(outputs):
        factors = np.random.default_rng(2).uniform(0.5, 4.0, (len(outputs), 1))
        return replace(outputs, features=outputs.features.astype(np.float64) * factors)

    before = scores(name, world.train, world.ood)
    np.testing.assert_allclose(scores(name, stretched(world.train), stretched(world.ood)), before, rtol=1e-6, atol=1e-9)


def test_order_of_the_classes_does_not_matter(world) -> None:
    swap = np.array([3, 1, 4, 0, 2])

    def relabelled(outputs):
        labels = outputs.labels if (outputs.labels < 0).any() else np.argsort(swap)[outputs.labels]
        return replace(
            outputs, logits=outputs.logits[:, swap], labels=labels,
            head_weight=outputs.head_weight[swap], head_bias=outputs.head_bias[swap],
        )  # fmt: skip

    for name in NAMES:
        before, after = (
            scores(name, world.train, world.ood),
            scores(name, relabelled(world.train), relabelled(world.ood)),
        )
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6 * np.abs(before).max(), err_msg=name)


def test_order_of_the_bank_does_not_matter(world) -> None:
    shuffled = world.train.take(np.random.default_rng(3).permutation(len(world.train)))
    for name in NAMES:
        before, after = scores(name, world.train, world.ood), scores(name, shuffled, world.ood)
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-6 * np.abs(before).max(), err_msg=name)


def test_float32_and_float64_outputs_agree(world) -> None:
    """Nothing depends on roundings of the inputs beyond their size."""

    def double(outputs):
        parts = ("logits", "features", "head_weight", "head_bias")
        return replace(outputs, **{name: getattr(outputs, name).astype(np.float64) for name in parts})

    for name in NAMES:
        before, after = scores(name, world.train, world.ood), scores(name, double(world.train), double(world.ood))
        np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5 * np.abs(before).max(), err_msg=name)


def test_vim_with_a_rank_deficient_head_warns_and_is_stable(world) -> None:
    """Rows of W that sum to 0, as weight decay leaves them: the pseudo-inverse is cut, in either precision alike."""

    def centred(outputs, dtype):
        weight = outputs.head_weight.astype(np.float64)
        weight = (weight - weight.mean(axis=0)).astype(dtype)
        bias = (outputs.head_bias - outputs.head_bias.mean()).astype(dtype)
        logits = outputs.features @ weight.T + bias
        return replace(outputs, logits=logits.astype(dtype), head_weight=weight, head_bias=bias)

    found = {}
    for dtype in (np.float32, np.float64):
        with pytest.warns(FitWarning, match="rank 4 of 5"):
            detector = plugins.read("detector", "vim").build().fit(centred(world.train, dtype))
        found[dtype] = detector.score(centred(world.ood, dtype))
    np.testing.assert_allclose(found[np.float32], found[np.float64], rtol=1e-4)


def test_scores_together_are_the_scores_alone_bit_for_bit(world) -> None:
    names = NAMES
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        detectors = {n: plugins.read("detector", n).build(**SMALL.get(n, {})).fit(world.train) for n in names}
    similarity.forget()
    alone = {}
    for name, detector in detectors.items():
        similarity.forget()
        alone[name] = detector.score(world.ood)
    similarity.forget()
    together = score_all(detectors, world.ood)
    for name in names:
        np.testing.assert_array_equal(together[name], alone[name])


def test_one_pass_serves_all_detectors_of_one_bank(world, monkeypatch) -> None:
    passes = []
    real = similarity.run_pass
    monkeypatch.setattr(similarity, "run_pass", lambda *a: passes.append(len(a[2])) or real(*a))
    similarity.forget()
    use = {"knn": {"k": 10}, "nnguide": {"k": 10, "share": 1.0}, "relation": {}, "cfood": {"alpha": 1.0}}
    detectors = {n: plugins.read("detector", n).build(**p).fit(world.train) for n, p in use.items()}
    score_all(detectors, world.test)
    assert passes == [4]
    score_all(detectors, world.test)
    assert passes == [4]
    changed = replace(world.test, features=world.test.features * np.float32(1.0001))
    score_all(detectors, changed)
    assert passes == [4, 4]


def test_the_memory_of_results_is_bounded(monkeypatch) -> None:
    similarity.forget()
    monkeypatch.setattr(similarity, "REMEMBERED", 1000)
    from testbed.detection.collect import Nearest

    rng = np.random.default_rng(0)
    bank = rng.normal(size=(30, 4))
    for _ in range(20):
        similarity.answers([similarity.Need(bank, rng.normal(size=(10, 4)), Nearest(3))])
    assert sum(a.nbytes for a in similarity._ANSWERS.values()) <= 1000


def test_dead_features_and_a_class_missing_do_not_break_any_detector(world) -> None:
    """Two dead features and no example of class 2: every detector fits (with warnings) and still separates."""

    def changed(outputs):
        z = np.concatenate([outputs.features, np.zeros((len(outputs), 2), np.float32)], axis=1)
        weight = np.concatenate([outputs.head_weight, np.zeros((5, 2), np.float32)], axis=1)
        return replace(outputs, features=z, head_weight=weight)

    train = changed(world.train.take(world.train.labels != 2))
    inside, outside = changed(world.test.take(world.test.labels != 2)), changed(world.ood)
    for name in NAMES:
        low, high = scores(name, train, inside), scores(name, train, outside)
        assert np.isfinite(low).all() and np.isfinite(high).all(), name
        assert auroc(low, high) > 0.6, name
