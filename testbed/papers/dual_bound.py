"""A certified bound on the error of the small Wong-Kolter network: the dual bound of the convex outer polytope.

For a network of linear maps and ReLUs and an Linf ball of radius eps, a linear function c of the last layer is
bounded from below by walking back through the layers (Wong & Kolter 2018, theorem 1 and algorithm 1; the same bound
is Fast-Lin of Weng et al. 2018). With pre-activation bounds l <= z <= u, a ReLU is

    0                          where u <= 0
    z                          where l >= 0
    between s z and s (z - l)  elsewhere, s = u / (u - l)

so a coefficient v on its output becomes s v on z, and where v < 0 the bound also gains the constant -s v l, at most
0. At the input, c is at least v x + constants - eps |v|_1. The bounds l and u of each layer come from the same walk
with unit vectors c, from the first layer on. A test image counts as an error unless every margin z_y - z_k (k != y)
has a positive lower bound. The ball is not cut at [0, 1], as in the paper.

The second layer has 1,568 units, and a walk for each is nearly all of the cost. Each sees 256 units of the first
layer and 10x10 pixels, alike at all 49 positions, so there the walk is one product of matrices of these sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from testbed.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from testbed.papers.compute import Result

#: Images bounded at once.
BATCH = 20

#: Both convolutions: kernel 4, stride 2, padding 1. A unit of the second sees a square of 10 pixels, at a stride of 4.
KERNEL, WINDOW, STRIDE, PADDING = 4, 10, 4, 3


def margins(net: Any, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Lower bounds `[n k]` of z_y - z_k over the Linf ball of radius eps about each of x `[n c h w]`; 0 at k = y.

    net  a `testbed.models.nets.small_cnn.SmallCnn` without normalisation and pooling
    """
    import torch

    with torch.no_grad():
        relus = [first := _first(net.conv1, x, eps)]
        relus.append(_second(net, x, first, eps))
        hidden = torch.eye(net.fc1.out_features).expand(len(x), -1, -1)
        relus.append(_bounds([net.conv1, net.conv2, net.fc1], relus, x, hidden, eps))
        units = torch.eye(net.fc2.out_features)
        wanted = units[y][:, None, :] - units
        return _bounds([net.conv1, net.conv2, net.fc1, net.fc2], relus, x, wanted, eps)[0]


def _first(layer: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Bounds of the first layer, exact: eps times the sum of |weight| over the pixels inside the image."""
    import torch
    from torch.nn import functional as F

    middle = layer(x)
    radius = eps * F.conv2d(torch.ones_like(x[:1]), layer.weight.abs(), stride=layer.stride, padding=layer.padding)
    return middle - radius, middle + radius


def _second(net: Any, x: Tensor, first: tuple[Tensor, Tensor], eps: float) -> tuple[Tensor, Tensor]:
    """Bounds `[n 32 7 7]` of the second layer, by the squares that its units see."""
    import torch
    from torch.nn import functional as F

    n, channels = len(x), net.conv1.out_channels
    slope, intercept = (_squares(part, KERNEL, 2, 1) for part in _relaxed(*first))
    rows = net.conv2.weight.flatten(1)
    inner = torch.eye(channels * KERNEL**2).reshape(-1, channels, KERNEL, KERNEL)
    back = F.conv_transpose2d(inner, net.conv1.weight, stride=2).flatten(1)
    pixels = (rows * slope[:, :, None, :]) @ back
    seen = _squares(x, WINDOW, STRIDE, PADDING)[:, :, :, None]
    inside = _squares(torch.ones_like(x[:1]), WINDOW, STRIDE, PADDING)[:, :, :, None]
    biases = (slope * net.conv1.bias.repeat_interleave(KERNEL**2)) @ rows.T + net.conv2.bias
    middle = (pixels @ seen).squeeze(3) + biases
    radius = eps * (pixels.abs() @ inside).squeeze(3)
    low = middle - radius - intercept @ F.relu(-rows).T
    high = middle + radius + intercept @ F.relu(rows).T
    size = (n, -1, x.shape[2] // 4, x.shape[3] // 4)
    return low.transpose(1, 2).reshape(size), high.transpose(1, 2).reshape(size)


def _squares(maps: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """The squares of `[n c h w]` as `[n positions c*side*side]`, zero outside."""
    from torch.nn import functional as F

    return F.unfold(maps, side, stride=stride, padding=padding).transpose(1, 2)


def _relaxed(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Slope s of each ReLU's relaxation, and -s l where it crosses 0, else 0."""
    crossing = (low < 0) & (high > 0)
    slope = (high / (high - low)).where(crossing, (low >= 0).to(low))
    return slope, (-slope * low).where(crossing, low.new_zeros(()))


def _bounds(
    layers: list[Any], relus: list[tuple[Tensor, Tensor]], x: Tensor, v: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds `[n m]` of the functions v `[n m outputs]` of the last of `layers`, by one walk."""
    middle, below, above = (v.new_zeros(v.shape[:2]) for _ in range(3))
    for depth in range(len(layers) - 1, -1, -1):
        v, constant = _back(layers[: depth + 1], x, v)
        middle = middle + constant
        if depth:
            slope, intercept = (part.flatten(1)[:, None] for part in _relaxed(*relus[depth - 1]))
            below = below + ((-v).clamp(min=0) * intercept).sum(2)
            above = above + (v.clamp(min=0) * intercept).sum(2)
            v = v * slope
    middle = middle + (v @ x.flatten(1)[:, :, None]).squeeze(2)
    radius = eps * v.abs().sum(2)
    return middle - radius - below, middle + radius + above


def _back(layers: list[Any], x: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients on the inputs of the last of `layers` and the constant of its bias, from those on its outputs."""
    from torch.nn import functional as F

    layer = layers[-1]
    if hasattr(layer, "in_features"):
        return v @ layer.weight, v @ layer.bias
    shape = (layer.out_channels, *(side // 2 ** len(layers) for side in x.shape[2:]))
    maps = v.reshape(-1, *shape)
    back = F.conv_transpose2d(maps, layer.weight, stride=layer.stride, padding=layer.padding)
    return back.reshape(*v.shape[:2], -1), (maps.sum((2, 3)) @ layer.bias).reshape(v.shape[:2])


def certified_error(weights: str, dataset: str, eps: str, limit: str = "10000") -> Result:
    """Share of the first `limit` test images that the dual bound does not certify at Linf eps, with its interval.

    weights  a public checkpoint of the small network, below TESTBED_DATA
    dataset  an installed data set of 28x28 grey images
    """
    from testbed.papers.compute import share

    bad, n = _uncertified(weights, dataset, float(eps), int(limit))
    return share(bad, n)


def _uncertified(weights: str, dataset: str, eps: float, limit: int) -> tuple[int, int]:
    import torch

    from testbed.data.base import data_file
    from testbed.models.nets.small_cnn import KEYS, SmallCnn
    from testbed.models.tensors import as_tensor
    from testbed.models.weights import mismatches, read
    from testbed.plugins import read as plugin

    state = {KEYS.get(name, name): value for name, value in read(data_file(weights, weights)).items()}
    net = SmallCnn((1, 28, 28), 10)
    if problems := mismatches(net.state_dict(), state):
        raise DataError(f"{weights}: not the small network: {problems[0]}")
    net.load_state_dict(state)
    data = plugin("dataset", dataset).build().load("test")
    count, wrong, threads = min(limit, len(data)), 0, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for start in range(0, count, BATCH):
            stop = min(start + BATCH, count)
            x, y = as_tensor(data.x[start:stop], data.spec), torch.from_numpy(data.y[start:stop])
            low = margins(net, x, y, eps)
            low[torch.arange(len(y)), y] = float("inf")
            wrong += int((low.min(1).values <= 0).sum())
    finally:
        torch.set_num_threads(threads)
    return wrong, count
