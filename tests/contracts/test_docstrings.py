"""Every example in a docstring of the packages runs and prints what it says."""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
import torch

PACKAGES = ("testbed", "testbed_attacks", "testbed_shifts")


def modules() -> list[str]:
    names = []
    for package in PACKAGES:
        root = importlib.import_module(package)
        names += [package, *(found.name for found in pkgutil.walk_packages(root.__path__, f"{package}."))]
    return [name for name in names if not name.endswith("__main__")]


def examples(name: str) -> list[doctest.DocTest]:
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_packages_have_examples(package):
    assert sum(len(examples(name)) for name in modules() if name.split(".")[0] == package) > 5


@pytest.mark.parametrize("name", modules())
def test_the_examples_of_a_module_run(name):
    for test in examples(name):
        test.globs |= {"np": np, "torch": torch}
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        printed: list[str] = []
        runner.run(test, out=printed.append)
        assert runner.failures == 0, "".join(printed)
