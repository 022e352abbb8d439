"""The model as an attack sees it: a function from inputs to logits that counts what it is asked.

Costs are counted here, per example, by the wrapper and never claimed by the attack: one query a forward evaluation of
one example, one gradient a backward evaluation of one example. An attack that says which examples its rows are
(`rows`, positions in the set) is counted exactly; a batch of the full set counts one each; any other batch is shared
evenly over the set, because nothing better is known.

The module runs in evaluation mode with frozen parameters, so gradients flow to the input only; `frozen` puts both back.
Inputs larger than `batch` are cut into chunks, forward and backward, so an attack may hold a whole set.

What goes in and what comes out is made alike first (`testbed.boundary`): one layout, float32 logits. An example whose
logits are no answer (NaN) is misclassified, whatever its label: where labels are given, an attack sees it as fooled.

On a CPU, oneDNN builds its kernels anew for every size of batch it meets, which takes as long as 40 examples on a small
net, and an attack that lets fooled examples go meets a new size at nearly every step. So chunks are filled up to one of
few sizes with copies of their first rows, which cost up to a sixteenth of the batch and are not counted. A model that
normalises by its batch gets the batch as it is.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from testbed import boundary
from testbed.errors import DataError

#: loss(logits, at) -> `[m]`; `at` is the slice of rows of x these logits belong to.
Loss = Callable[[Tensor, slice], Tensor]


@dataclass(frozen=True)
class Counts:
    """What each example of a set has cost so far, float64 `[n]` (fractions where a batch was shared evenly).

    first_wrong    queries spent when the example was first seen misclassified, 0 = not yet
    zero_gradients, bad_gradients   how many of its gradients were exactly zero, or held NaN or infinity
    """

    queries: Tensor
    gradients: Tensor
    first_wrong: Tensor
    zero_gradients: Tensor
    bad_gradients: Tensor

    @classmethod
    def zeros(cls, n: int, device: Any = None) -> Counts:
        """Nothing counted yet for n examples."""
        return cls(*(torch.zeros(n, dtype=torch.float64, device=device) for _ in range(5)))


@contextmanager
def frozen(module: Any) -> Iterator[None]:
    """Evaluation mode and no parameter gradients inside; the module's own modes and flags afterwards."""
    if not isinstance(module, torch.nn.Module):
        yield
        return
    modes = [(part, part.training) for part in module.modules() if hasattr(part, "training")]
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    if modes:  # a frozen scripted module has no modes
        module.eval()
    for parameter, _ in flags:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
        for parameter, wanted in flags:
            parameter.requires_grad_(wanted)


class Victim:
    """`model` as attacks get it: `victim(x)` is the logits `[m k]` of x `[m ...]`.

    ids      of the examples, where it is known how many there are
    counts   shared with another victim of the same set; made new where absent
    labels   int64 `[n]`; given, the query that first saw each example misclassified is recorded

    >>> victim = Victim(torch.nn.Linear(2, 3), ids=[5, 6])
    >>> _ = victim(torch.zeros(1, 2), rows=torch.tensor([1]))
    >>> gradient, loss, logits = victim.gradient(torch.zeros(2, 2), lambda z, at: z[:, 0])
    >>> victim.counts.queries.tolist(), victim.counts.gradients.tolist(), tuple(gradient.shape)
    ([1.0, 2.0], [1.0, 1.0], (2, 2))
    """

    def __init__(
        self,
        module: Any,
        *,
        ids: Any = None,
        counts: Counts | None = None,
        labels: Tensor | None = None,
        batch: int = 256,
    ) -> None:
        self.module, self.batch, self.labels = module, batch, labels
        self.device, self._dtype = device_of(module), boundary.dtype_of(module)
        self.withheld: Tensor | None = None
        self._pads = self.device.type == "cpu" and _judges_rows_apart(module)
        self.counts = counts if counts is not None else Counts.zeros(1 if ids is None else len(ids), self.device)
        self._rows = torch.arange(len(self.counts.queries), device=self.counts.queries.device)

    def take(self, rows: Tensor) -> Victim:
        """The same model for a part of the set; its rows are counted where they belong in the whole."""
        part = copy.copy(self)
        part._rows = self._rows[rows.to(self._rows.device)]
        return part

    def positions(self, rows: Tensor) -> Tensor:
        """Where these rows of this part of the set are in `counts`."""
        return self._rows[rows.to(self._rows.device)]

    @property
    def held(self) -> Tensor | None:
        """bool `[n]` of this part of the set: whose verdict is withheld, so that they are worked on to the end.

        Of an attack for another model these are the examples that this one gets wrong already; None where it is nobody.
        """
        return None if self.withheld is None else self.withheld[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, x: Tensor, *, rows: Tensor | None = None) -> Tensor:
        """Logits `[m k]`. Gradients flow to x where it asks for them, and a backward pass is then counted too."""
        where = self._where(rows, len(x))
        logits = (
            torch.cat([self._forward(x[at], where, at) for at in _slices(len(x), self.batch)])
            if len(x) > self.batch
            else self._forward(x, where, slice(None))
        )
        self._count(self.counts.queries, where, len(x))
        self._note_wrong(logits, where)
        if logits.requires_grad:
            logits.register_hook(lambda _: self._count(self.counts.gradients, where, len(x)))  # type: ignore[no-untyped-call]
        return logits

    def gradient(self, x: Tensor, loss: Loss, *, rows: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient `[m ...]` of each row's loss at x, the loss `[m]` and the logits `[m k]`, all detached.

        Counts one query and one gradient a row. Values that are not finite are counted and set to zero.
        """
        where = self._where(rows, len(x))
        parts = [self._gradient(x[at], loss, where, at) for at in _slices(len(x), self.batch)]
        gradient, values, logits = (torch.cat(column) if len(parts) > 1 else column[0] for column in zip(*parts))
        self._count(self.counts.queries, where, len(x))
        self._count(self.counts.gradients, where, len(x))
        largest = gradient.flatten(1).abs().amax(1) if gradient.numel() else gradient.new_zeros(len(x))
        zero, bad = largest == 0, ~largest.isfinite()
        if bool(zero.any()):
            self._count(self.counts.zero_gradients, where, len(x), zero)
        if bool(bad.any()):
            self._count(self.counts.bad_gradients, where, len(x), bad)
            gradient = torch.nan_to_num(gradient, nan=0.0, posinf=0.0, neginf=0.0)
        self._note_wrong(logits, where)
        return gradient, values, logits

    def _gradient(self, x: Tensor, loss: Loss, where: Tensor | None, at: slice) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self._forward(x, where, at)
            values = loss(logits, at)
            if not values.requires_grad:
                return torch.zeros_like(x).detach(), values.detach(), logits.detach()
            (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
        return torch.zeros_like(x).detach() if gradient is None else gradient, values.detach(), logits.detach()

    def _forward(self, x: Tensor, where: Tensor | None, at: slice) -> Tensor:
        more = padded(len(x)) - len(x) if self._pads else 0
        logits = boundary.ask(self.module, torch.cat([x, x[:more].detach()]) if more else x, self._dtype)
        if not isinstance(logits, Tensor):
            name = type(logits).__name__
            keys = f" with keys {', '.join(map(repr, logits))}" if isinstance(logits, dict) else ""
            raise DataError(
                f"the model must give logits [{len(x)}, classes], got a {name}{keys}; attack a function that returns "
                f"the logits alone, for example lambda x: model(x)[{'KEY' if keys else 0}]"
            )
        logits = logits[: len(x)] if more and logits.dim() and len(logits) == len(x) + more else logits
        if logits.dim() != 2 or len(logits) != len(x):
            return logits  # refused by `verify.logits_of`, which knows what was asked for
        logits = boundary.logits(logits)
        return logits if self.labels is None else self._wrong_without_answer(logits, where, at)

    def _wrong_without_answer(self, logits: Tensor, where: Tensor | None, at: slice) -> Tensor:
        """Rows without an answer become finite, with every class before the label; zeros where labels are not known."""
        bad = ~boundary.answered(logits)
        if not bool(bad.any()):
            return logits
        wrong = torch.zeros_like(logits)
        if self.labels is not None and where is not None:
            wrong.scatter_(1, self.labels[where][at].clamp_min(0)[:, None], -1.0)
        return torch.where(bad[:, None], wrong, logits)

    def _where(self, rows: Tensor | None, size: int) -> Tensor | None:
        if rows is not None:
            return self.positions(rows)
        return self._rows if size == len(self._rows) else None

    def _count(self, column: Tensor, where: Tensor | None, size: int, which: Tensor | None = None) -> None:
        amount = torch.ones(size, dtype=column.dtype, device=column.device) if which is None else which.to(column)
        if where is not None:
            column.index_add_(0, where, amount)
        elif len(self._rows):
            column[self._rows] += amount.sum() / len(self._rows)

    def _note_wrong(self, logits: Tensor, where: Tensor | None) -> None:
        if self.labels is None or where is None:
            return
        wrong = logits.detach().argmax(1) != self.labels[where]
        if not bool(wrong.any()):
            return
        at = where[wrong]
        new = at[self.counts.first_wrong[at] == 0]
        self.counts.first_wrong[new] = self.counts.queries[new]


def padded(n: int) -> int:
    """The number of examples that n are run as, at most a sixteenth more: 96 sizes up to 512.

    >>> [padded(n) for n in (1, 31, 33, 100, 129, 256)]
    [1, 31, 34, 100, 136, 256]
    """
    step = 1 << max((n - 1).bit_length() - 5, 0)
    return -(-n // step) * step


def device_of(module: Any) -> torch.device:
    """Where the module's parameters are; the CPU for a plain callable."""
    first = _first_parameter(module)
    return torch.device("cpu") if first is None else first.device


def _judges_rows_apart(module: Any) -> bool:
    """Whether it is a network whose layers, as far as they tell, do not mix the rows of a batch."""
    if _first_parameter(module) is None:
        return False
    return not any(getattr(part, "running_mean", part) is None for part in module.modules())


def _first_parameter(module: Any) -> Tensor | None:
    return next(module.parameters(), None) if isinstance(module, torch.nn.Module) else None


def _slices(n: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, n)) for start in range(0, n, size)] or [slice(0, 0)]
