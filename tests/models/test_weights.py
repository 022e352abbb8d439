"""Weight files: safetensors and torch files in, keys and shapes named where they do not fit, code refused."""

import collections
import os

import pytest
import torch
from torch import nn

from testbed.errors import DataError
from testbed.models import weights


def net(hidden=3):
    return nn.Sequential(nn.Linear(4, hidden), nn.BatchNorm1d(hidden), nn.Linear(hidden, 2))


def test_what_is_saved_is_loaded_and_the_bytes_are_stable(tmp_path):
    a, b = net(), net()
    weights.save(a, tmp_path / "a.safetensors")
    weights.load(b, tmp_path / "a.safetensors")
    weights.save(b, tmp_path / "b.safetensors")

    assert all(torch.equal(a.state_dict()[key], value) for key, value in b.state_dict().items())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {f"module.{k}": v for k, v in s.items()}]
)
def test_torch_files_and_their_usual_wrappings(wrap, tmp_path):
    a, b = net(), net()
    torch.save(wrap(a.state_dict()), tmp_path / "a.pt")
    weights.load(b, tmp_path / "a.pt")

    assert torch.equal(a[0].weight, b[0].weight)


def test_a_key_map_renames_or_leaves_out(tmp_path):
    a, b = net(), net()
    weights.write(
        {f"net.{k}": v for k, v in a.state_dict().items()} | {"extra": torch.zeros(1)}, tmp_path / "a.safetensors"
    )
    weights.load(
        b, tmp_path / "a.safetensors", lambda key: key.removeprefix("net.") if key.startswith("net.") else None
    )

    assert torch.equal(a[2].weight, b[2].weight)
    with pytest.raises(DataError, match=r"the name '0\.bias' to two tensors"):
        weights.rename({"0.bias": torch.zeros(1), "x": torch.zeros(1)}, {"x": "0.bias"})


def test_every_key_and_shape_that_does_not_fit_is_named(tmp_path):
    state = {**net(5).state_dict(), "9.weight": torch.zeros(1)}
    del state["2.bias"]
    weights.write(state, tmp_path / "a.safetensors")

    with pytest.raises(DataError) as error:
        weights.load(net(3), tmp_path / "a.safetensors")
    text = str(error.value)
    assert "do not fit Sequential" in text
    assert "'0.weight': the model has shape [3, 4], the file [5, 4]" in text
    assert "'2.bias': in the model, not in the file" in text and "'9.weight': in the file, not in the model" in text


class Evil:
    def __reduce__(self):
        return (os.system, ("true",))


@pytest.mark.parametrize("content", [{"w": Evil()}, {"w": collections.Counter([1])}], ids=["code", "class"])
def test_a_pickle_that_wants_code_is_refused(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")

    with pytest.raises(DataError, match=r"is refused|holds no state dict") as error:
        weights.read(tmp_path / "a.pt")
    assert "weights_only" not in str(error.value)


def test_evil_pickle_never_runs(tmp_path):
    torch.save({"w": Touch(str(tmp_path / "touched"))}, tmp_path / "a.pt")

    with pytest.raises(DataError, match="a pickle that would run code"):
        weights.read(tmp_path / "a.pt")
    assert not (tmp_path / "touched").exists()


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_damaged_and_absent_files_are_errors(name, tmp_path):
    with pytest.raises(DataError, match="no weight file"):
        weights.read(tmp_path / name)
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match=r"refused|not a whole"):
        weights.read(tmp_path / name)


def test_a_list_is_not_a_state_dict(tmp_path):
    torch.save([torch.zeros(1)], tmp_path / "a.pt")

    with pytest.raises(DataError, match="holds no state dict: expected tensors by name, got list"):
        weights.read(tmp_path / "a.pt")
