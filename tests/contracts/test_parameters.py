"""Every built-in plug-in of every kind refuses, at construction, words and numbers that its parameters do not take."""

import dataclasses
import typing
from typing import Annotated, Literal

import pytest

from testbed import plugins
from testbed.calibration.conformal import Conformal
from testbed.errors import ParameterError
from testbed.models import recipes
from testbed.parameters import Checked, bounds, declared_types, fits, misfit


def classes():
    for kind in plugins.KINDS:
        for name in plugins.installed(kind):
            target = plugins.read(kind, name).loader()
            if dataclasses.is_dataclass(target):  # an adapter's plug-ins are another package's
                yield pytest.param(target, id=f"{kind}-{name}")
    yield from (pytest.param(recipes.read(name).loader(), id=f"recipe-{name}") for name in recipes.RECIPES)
    yield pytest.param(Conformal, id="conformal")


def wrong_values(annotation):
    """Values that a declaration excludes."""
    if typing.get_origin(annotation) is Literal:
        yield from ("no such word", str(typing.get_args(annotation)[0]).swapcase() + "x")
    elif typing.get_origin(annotation) is Annotated and typing.get_args(annotation)[0] in (int, float):
        for bound in bounds(annotation):
            (limit,) = dataclasses.astuple(bound)
            beyond = -1 if hasattr(bound, "ge") or hasattr(bound, "gt") else 1
            yield limit if hasattr(bound, "gt") or hasattr(bound, "lt") else limit + beyond
        yield "a word"
    elif annotation is float:
        yield from (float("nan"), float("inf"))
    elif annotation in (int, bool):
        yield "a word"
    elif typing.get_origin(annotation) is tuple and typing.get_args(annotation)[1:] == (...,):
        yield from ([value] for value in wrong_values(typing.get_args(annotation)[0]))
    elif type(None) in typing.get_args(annotation):
        yield from wrong_values(typing.get_args(annotation)[0])


@pytest.mark.parametrize("target", list(classes()))
def test_what_a_parameter_does_not_take_is_refused(target):
    declared = declared_types(target)
    assert issubclass(target, Checked)
    for field in dataclasses.fields(target):
        if field.init and field.default is not dataclasses.MISSING:
            assert fits(declared[field.name], field.default), f"the default of {field.name}"
    for name, annotation in declared.items():
        for value in wrong_values(annotation):
            with pytest.raises(ParameterError, match=rf"^{target.__name__}: {name}: expected .*got "):
                target(**{name: value})


def test_no_number_is_without_a_bound_unless_it_has_none():
    """A float or int without bounds may be anything finite; here they all are, so that a new one is a choice."""
    free = set()
    for param in classes():
        (target,) = param.values
        free |= {f"{target.__name__}.{name}" for name, a in declared_types(target).items() if a in (int, float)}
    assert free == {"CovariateTilt.b", "FeatureScaling.factor", "UnitError.factor", "Gaussian.mean"}


def test_misspelt_words_name_the_nearest():
    with pytest.raises(
        ParameterError, match=r"Conformal: score: expected 'lac', 'aps' or 'raps', got 'LAC'; did you mean 'lac'\?"
    ):
        Conformal(score="LAC")
    with pytest.raises(ValueError, match=r"KNN: k: expected an integer of at least 1, got 0"):
        plugins.read("detector", "knn").build(k=0)


def test_arrays_are_let_through_and_truth_is_no_number():
    import numpy as np

    assert fits(plugins.read("attack", "pgd").parameters[0].annotation, np.full(3, 0.1))
    assert misfit(int, True) is not None and misfit(float, 3) is None and misfit(int, 3.0) is None
    assert (
        misfit(float, np.float32(0.5)) is None
        and misfit(str, 5) is not None
        and misfit(tuple[int, ...], "12") is not None
    )
