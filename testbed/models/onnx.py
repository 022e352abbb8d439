"""ONNX files run by onnxruntime on the CPU: a black box whose weights travel through the store as the file's bytes.

The session is single-threaded unless the plan says otherwise and runs its nodes in order, so one version of
onnxruntime on one CPU class gives the same bits. A file exported for a fixed number of examples is fed that many at a
time, the last batch filled up with zeros. Files that keep their weights beside them (external data) are refused,
because only the file itself is in the digest.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from testbed.errors import DataError, MissingExtra, UsageError, nearest
from testbed.models.black_box import Answer, BlackBox, Scores
from testbed.models.nets.common import Normalise
from testbed.types import Floats

_FLOATS: Final = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}


class OnnxNet(BlackBox):
    """The network of an ONNX file; the buffer `onnx` holds the file, and loading it opens the session.

    output     name of the output that has the scores; None: the first
    features   name of the output that has the penultimate features; None: there are none
    channels   "first": images go in as `[n c h w]`; "last": as `[n h w c]`
    normalise  applied before the file sees the image
    """

    onnx: torch.Tensor
    sized_by_file = frozenset({"onnx"})

    def __init__(
        self,
        classes: int,
        scores: Scores = "logits",
        output: str | None = None,
        features: str | None = None,
        channels: str = "first",
        normalise: Normalise | None = None,
    ) -> None:
        super().__init__("the ONNX model", classes, scores)
        self.output, self.features, self.channels, self.normalise = output, features, channels, normalise
        self.register_buffer("onnx", torch.empty(0, dtype=torch.uint8))
        self._session: Any = None

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Take the file's bytes whatever their number, and open them."""
        key = f"{prefix}onnx"
        if key in state_dict:
            self.onnx = state_dict[key].clone()
            self._session = session(self.onnx.numpy().tobytes(), torch.get_num_threads())
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def query(self, x: Floats) -> Answer:
        """Scores and features of float32 `[n ...]`."""
        if self._session is None:
            raise UsageError("the ONNX model has no file: give `weights: FILE.onnx`")
        if self.normalise is not None:
            x = self.normalise(torch.from_numpy(x)).numpy()
        if x.ndim == 4 and self.channels == "last":
            x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        names = [name for name in (self._output(), self.features) if name is not None]
        found = [self._run(names, part) for part in self._parts(x)]
        joined = [np.concatenate([part[i] for part in found])[: len(x)] for i in range(len(names))]
        return Answer(joined[0], joined[1] if len(joined) > 1 else None)

    def _output(self) -> str:
        known = [one.name for one in self._session.get_outputs()]
        for name in (self.output, self.features):
            if name is not None and name not in known:
                raise UsageError(f"the ONNX model has no output {name!r}; {nearest(name, known)}")
        return self.output or str(known[0])

    def _parts(self, x: Floats) -> list[Floats]:
        """x in the batches the file takes: all at once, or as many as it was exported for."""
        source = self._input()
        fixed = source.shape[0] if isinstance(source.shape[0], int) else None
        expected, got = list(source.shape[1:]), list(x.shape[1:])
        if len(expected) != len(got) or any(isinstance(e, int) and e != g for e, g in zip(expected, got, strict=True)):
            raise DataError(
                f"the ONNX model takes inputs of shape {['n', *expected]}, the data gives {['n', *got]}; "
                "`channels: last` swaps the axes of images"
            )
        if fixed is None:
            return [x]
        filled = np.concatenate([x, np.zeros((-len(x) % fixed, *x.shape[1:]), dtype=x.dtype)])
        return [filled[start : start + fixed] for start in range(0, len(filled), fixed)]

    def _input(self) -> Any:
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type not in _FLOATS:
            found = ", ".join(f"{one.name}: {one.type}" for one in inputs)
            raise DataError(f"the ONNX model must take one tensor of floats, it takes {found}")
        return inputs[0]

    def _run(self, names: list[str], x: Floats) -> list[Any]:
        source = self._input()
        try:
            found: list[Any] = self._session.run(names, {source.name: x.astype(_FLOATS[source.type])})
        except Exception as error:  # onnxruntime's own errors share no public base
            raise DataError(f"the ONNX model failed on an input of shape {list(x.shape)}: {_first(error)}") from None
        return found


def session(data: bytes, threads: int) -> Any:
    """An inference session of a file's bytes; DataError where they are no ONNX model that stands alone."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingExtra("onnxruntime", "an ONNX model", "'robustness-testbed[onnx]'") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own errors share no public base
        raise DataError(f"not an ONNX model that stands alone: {_first(error)}") from None


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
