"""The protocols that ship as data, and the refusal to join numbers of different ones."""

import pytest

from testbed.detection.protocols import protocol, protocols, refuse_mixed
from testbed.errors import UsageError


def test_every_protocol_is_consistent() -> None:
    for name, entry in protocols().items():
        assert entry.name == name and entry.source and entry.id
        groups = [*entry.near, *entry.far]
        assert len(set(groups)) == len(groups)
        assert entry.id not in groups
        assert entry.positive in ("ood", "id", "both", "")
        assert entry.aupr in ("trapezoid", "average_precision", "")


def test_openood_lists() -> None:
    """The near and far lists of OpenOOD v1.5, as the notes on its code have them."""
    assert protocol("openood-v1.5/cifar10").near == ("cifar100", "tiny-imagenet")
    assert protocol("openood-v1.5/imagenet1k").far == ("inaturalist", "textures", "openimage-o")
    assert protocol("openood-v1.5/cifar10").positive == "ood"
    assert protocol("openood-v1.5/cifar10").group_of("places365") == "far"
    assert protocol("openood-v1.5/cifar10").group_of("omniglot") == ""


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'openood-v1.5/cifar10'"):
        protocol("openood-v1.5/cifar")


def test_mixed_protocols_are_refused() -> None:
    assert refuse_mixed([]) is None and refuse_mixed([None, ""]) is None
    with pytest.raises(UsageError, match="none, 'fd-shifts'"):
        refuse_mixed(["fd-shifts", None])
