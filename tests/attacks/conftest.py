"""Published networks with their test images, from TESTBED_DATA."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from testbed.data.idx import read_idx
from testbed.models import weights, zoo
from testbed.types import Spec

Subject = tuple[Any, torch.Tensor, torch.Tensor]
NETS: dict[str, tuple[Any, str, str]] = {
    "kw": (zoo.SmallCnn(), "mnist", "mnist_kw_small_eps0.1"),
    "cnn_a": (zoo.SmallCnn(), "mnist", "mnist_cnn_a_adv"),
    "resnet20": (zoo.CifarResNet(20), "cifar10", "resnet20_cifar10"),
}


@pytest.fixture(scope="session")
def subject() -> Callable[[str, int], Subject]:
    """`subject(name, n)`: a net in evaluation mode, n of its test images `[n c h w]`, always the same, and labels."""

    def load(name: str, n: int) -> Subject:
        plugin, data, file = NETS[name]
        folder = Path(os.environ.get("TESTBED_DATA", ""))
        path = folder / "weights" / f"{file}.safetensors"
        if not os.environ.get("TESTBED_DATA") or not path.is_file():
            pytest.skip("needs the weights and images of TESTBED_DATA")
        net = plugin.build(Spec("image", (28, 28, 1) if data == "mnist" else (32, 32, 3), 10))
        weights.load(net, path, getattr(plugin, "key_map", None))
        x, y = _images(folder, data)
        some = np.random.default_rng(0).permutation(len(x))[:n]
        return (
            net.eval(),
            torch.from_numpy(x[some].astype(np.float32) / 255),
            torch.from_numpy(y[some].astype(np.int64)),
        )

    return load


def _images(folder: Path, data: str) -> tuple[Any, Any]:
    if data == "mnist":
        images, labels = (
            read_idx(folder / "mnist" / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1")
        )
        return images[:, None], labels
    with np.load(folder / "cifar10" / "cifar10_test_first1017.npz") as arrays:
        return arrays["images"].transpose(0, 3, 1, 2), arrays["labels"]
