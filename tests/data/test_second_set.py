"""A second data set as a shift: whose labels, which examples, what cannot be; accuracy among some classes only."""

import numpy as np
import pytest

from testbed import plugins
from testbed.data.packaged import Digits, Mnist5k
from testbed.data.second import SecondSet
from testbed.errors import DataError, PluginViolation, UsageError
from testbed.metrics.bootstrap import Draws
from testbed.metrics.scores import SubsetAccuracy, accuracy
from testbed.perturb.shift import Shift
from testbed.types import Examples, Spec

DIGITS = Digits().load("all")


def on_digits(**params):
    return Shift(plugins.read("shift", "second_set"), params).on(DIGITS, seed=0)


def test_labels_go_by_class_name_and_images_are_brought_to_size():
    found = on_digits(of="mnist5k", limit=50)
    mnist = Mnist5k().load("all")

    assert found.x.shape == (50, 8, 8, 1) and found.spec == DIGITS.spec
    assert (found.y == mnist.y[np.isin(mnist.ids, found.ids)]).all() and (np.diff(found.ids) > 0).all()


def test_a_part_of_the_classes_keeps_their_names():
    found = on_digits(of={"use": "only_classes", "of": "mnist5k", "classes": [7, 2]}, limit=40)

    assert set(found.y.tolist()) == {2, 7}


def test_the_same_examples_are_those_of_the_ids_given():
    few = DIGITS.take(np.arange(0, 100, 3))
    found = Shift(plugins.read("shift", "second_set"), {"of": "digits", "same": True}).on(few, seed=5)

    assert (found.ids == few.ids).all() and (found.x == few.x).all()


@pytest.mark.parametrize(
    ("params", "spec", "words"),
    [
        ({"of": "mnist5k"}, Spec("image", (8, 8, 1), 4), "has 10 classes, the first set 4; give `classes`"),
        ({"of": "mnist5k", "classes": (0, 1)}, Spec("image", (8, 8, 1), 4), "expected 10 of them, each in 0..3"),
        ({"of": "mnist5k"}, Spec("series", (8, 1), 10), "holds image data, the first set series"),
        ({"of": "mnist5k"}, Spec("image", (8, 8, 1), 2, class_names=("0", "cat")), "no class '1'"),
        ({"of": "mnist6k"}, Spec("image", (8, 8, 1), 2), "unknown dataset 'mnist6k'; did you mean 'mnist5k'"),
    ],
)
def test_what_cannot_be_a_second_set_is_an_error(params, spec, words):
    with pytest.raises(UsageError, match=words):
        SecondSet(**params).mapping(spec)


def test_no_shared_example_and_a_broken_plug_in_are_errors():
    with pytest.raises(DataError, match="shares no example id"):
        Shift(plugins.read("shift", "second_set"), {"of": "digits", "same": True}).on(
            Examples(DIGITS.x[:2], DIGITS.y[:2], np.array([-5, -4]), DIGITS.spec)
        )
    text = 'class Bad:\n    level = "replace"\n    def __call__(self, examples, *, rng):\n        return examples.x\n'
    plugin = plugins._from_text("shift", "bad", "Bad", text, "bad.py")
    with pytest.raises(PluginViolation, match="must return examples as the first set's"):
        Shift(plugin).on(DIGITS)


def test_accuracy_among_a_part_of_the_classes_by_hand():
    probs = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    labels, draws = np.array([1, 2, 2]), Draws(0, 3, 20)

    assert SubsetAccuracy()(probs, labels, draws=draws).value == pytest.approx(2 / 3)
    assert SubsetAccuracy((0, 1, 2))(probs, labels, draws=draws).value == accuracy(probs, labels)
    assert "among 2 of 3 classes" in SubsetAccuracy()(probs, labels, draws=draws).convention
    with pytest.raises(DataError, match=r"must lie in 0\.\.2"):
        SubsetAccuracy((5,))(probs, labels, draws=draws)
