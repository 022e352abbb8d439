"""The border between a network, as people bring it, and everything here: what goes in, and what counts as its answer.

In goes one layout, whatever the layout of what was given: row-major float32, or the dtype that all of the network's own
floating-point parameters have. Out come float32 logits `[n k]`:

    float64, float16, bfloat16      are cast; a gradient flows through the cast
    -inf (a masked class)           stands for a finite logit far below the row's lowest, because losses subtract logits
    NaN, +inf, nothing but -inf     is no answer (`answered`): the example counts as failed, never as right

`-inf - -inf` is NaN, and one class that is left out must not spoil the margin between two others: with the floor,
softmax agrees to 1e-44 and argmax exactly.

A network whose forward raises, or that writes to its input, is named as what is at fault, with the line.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from testbed import loading
from testbed.errors import DataError, TestbedError

#: How far below the lowest finite logit of its row a masked class stands, besides that logit's own size.
MASKED: Final = 100.0

_LIBRARIES: Final = tuple(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__))


def row_major(x: Tensor) -> Tensor:
    """`x` in the one layout that its shape has by default; itself where it has that already.

    `Tensor.contiguous` is not enough: the strides of axes of size 1 are free, and kernels are chosen by them.

    >>> grey = torch.zeros(2, 4, 4, 1).permute(0, 3, 1, 2)
    >>> grey.is_contiguous(), grey.stride(), row_major(grey).stride()
    (True, (16, 1, 4, 1), (16, 16, 4, 1))
    """
    strides, step = [], 1
    for size in reversed(x.shape):
        strides.append(step)
        step *= max(size, 1)
    usable = torch.is_inference_mode_enabled() or not x.is_inference()
    if usable and x.stride() == tuple(reversed(strides)):
        return x
    return x.clone(memory_format=torch.contiguous_format)


def dtype_of(module: Any) -> torch.dtype:
    """What the network takes: the dtype that all of its floating-point parameters share, else float32.

    >>> dtype_of(torch.nn.Linear(2, 2).double()), dtype_of(torch.nn.Flatten())
    (torch.float64, torch.float32)
    """
    parameters = module.parameters() if isinstance(module, torch.nn.Module) else ()
    found = {one.dtype for one in parameters if one.is_floating_point()}
    return found.pop() if len(found) == 1 else torch.float32


def evaluating(module: Any) -> Any:
    """`module` in evaluation mode; a frozen scripted module has no modes and is taken as it is."""
    return module.eval() if hasattr(module, "training") else module


def ask(module: Any, x: Tensor, dtype: torch.dtype | None = None) -> Any:
    """What the network gives for `x`, in whatever form; DataError where it raises, or writes to `x`.

    dtype  what it takes, where that is known already (`dtype_of`)
    """
    given = row_major(x).to(dtype_of(module) if dtype is None else dtype)
    before = None if given.is_inference() else given._version
    try:
        found = module(given)
    except TestbedError:
        raise
    except Exception as error:
        raise DataError(
            f"the forward of the model {name_of(module)} raised {type(error).__name__}: {_first(error)} "
            f"(on {len(x)} examples of shape {list(x.shape[1:])}){place(error)}"
        ) from error
    if before is not None and given._version != before:
        raise writes(module)
    return found


def writes(module: Any) -> DataError:
    """The error about a network that changes its input."""
    return DataError(
        f"the model {name_of(module)} changes its input in place (an operation such as x.sub_(...), or a first layer "
        "with inplace=True), so nothing that is asked of it twice is the same question: let its forward work on a copy"
    )


def logits(found: Tensor, *, wide: bool = False) -> Tensor:
    """float32 logits of a tensor `[n k]` that a network gave, masked classes finite; see the module.

    wide  float64 stays float64, for what takes differences of logits

    >>> logits(torch.tensor([[1.0, float("-inf"), -2.0]], dtype=torch.float64)).tolist()
    [[1.0, -104.0, -2.0]]
    """
    found = found if wide and found.dtype == torch.float64 else found.float()
    masked = found.detach() == float("-inf")
    if not bool(masked.any()):
        return found
    lowest = found.detach().masked_fill(masked, float("inf")).amin(1, keepdim=True)
    floor = (lowest - MASKED - lowest.abs()).clamp_min(torch.finfo(found.dtype).min)
    return torch.where(masked & answered(found)[:, None], floor, found)


def answered(found: Tensor) -> Tensor:
    """bool `[n]`: the rows of logits that are an answer: no NaN, no +inf, and one class at least that is not masked.

    >>> answered(torch.tensor([[1.0, float("-inf")], [1.0, float("nan")], [1.0, float("inf")]])).tolist()
    [True, False, False]
    """
    return found.detach().amax(1).isfinite()


def predicted(found: Tensor) -> Tensor:
    """int64 `[n]`: the predicted class, -1 where there is no answer.

    >>> predicted(torch.tensor([[1.0, 2.0], [float("nan"), 2.0]])).tolist()
    [1, -1]
    """
    return found.detach().argmax(1).masked_fill(~answered(found), -1)


def pick(found: Any, key: str | int | None, module: Any = None) -> Any:
    """The logits of what a network gave: the tensor itself, or the part that `output` (the key) names.

    A mapping (a transformers ModelOutput too) has names, a tuple or list positions, a named tuple or dataclass both.
    DataError where the key is missing or names nothing.

    >>> pick({"logits": 1, "aux": 2}, "aux"), pick((3, 4), 0)
    (2, 3)
    """
    if key is None:
        return found
    if isinstance(found, Mapping) and key in found:
        return found[key]
    if isinstance(key, int) and isinstance(found, Sequence) and -len(found) <= key < len(found):
        return found[key]
    if isinstance(key, str) and not isinstance(found, Tensor) and hasattr(found, key):
        return getattr(found, key)
    raise DataError(f"the model {name_of(module)} gives {shape_of(found)}, which has no output {key!r}")


def shape_of(found: Any) -> str:
    """What a network gave, in words, with the keys to pick from.

    >>> shape_of({"logits": torch.zeros(2, 3)}), shape_of((torch.zeros(2, 3), None))
    ("a dict with keys 'logits'", 'a tuple of 2')
    """
    if isinstance(found, Tensor):
        return f"a tensor {list(found.shape)}"
    name = type(found).__name__
    if isinstance(found, Mapping):
        return f"a {name} with keys {', '.join(map(repr, found))}"
    return f"a {name} of {len(found)}" if isinstance(found, (tuple, list)) else f"a {name}"


def name_of(module: Any) -> str:
    """What a network is called in an error."""
    return getattr(module, "__name__", None) or type(module).__name__


def place(error: BaseException) -> str:
    """Where an error came from, to be put behind its message: the innermost line that is the user's, not a library's.

    A user's file that runs from the store has no path there; its line is quoted instead.
    """
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if loading.is_user_file(f.filename)]
    outside = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
    for frame in reversed(own or outside or list(frames)):
        if not own:
            return f", at {frame.filename}:{frame.lineno}"
        return f", {loading.spoken(frame.filename, frame.lineno or 0)}" + (f": {frame.line}" if frame.line else "")
    return ""


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:400]
