"""Small networks for tables and time series.

`Columns` is the first layer for a table: each number to [-1, 1] by its bounds and then batch-normalised (bounds alone
would squeeze a column with a long tail), each category to a one-hot vector of its rounded code. Missing numbers (NaN)
become the middle of the range, missing categories no category at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from testbed.types import Spec

#: Fewest points that three convolutions of stride 2 take.
SHORTEST = 8


class Columns(nn.Module):
    """float32 `[n f]` in the bounds of `spec` to float32 `[n width]`."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        features = spec.shape[0]
        pairs = spec.bounds * features if len(spec.bounds) == 1 else spec.bounds
        self.numbers = [i for i in range(features) if i not in spec.categorical]
        self.sizes = [(i, round(pairs[i][1] - pairs[i][0]) + 1) for i in spec.categorical]
        self.register_buffer("low", torch.tensor([pair[0] for pair in pairs]), persistent=False)
        self.register_buffer("high", torch.tensor([pair[1] for pair in pairs]), persistent=False)
        self.norm = nn.BatchNorm1d(len(self.numbers), affine=False)
        self.width = len(self.numbers) + sum(size for _, size in self.sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scaled numbers and one-hot categories."""
        half = ((self.high - self.low) / 2).clamp_min(torch.finfo(torch.float32).tiny)
        scaled = torch.nan_to_num((x - self.low) / half - 1, nan=0.0)
        parts = [self.norm(scaled[:, self.numbers])]
        for column, size in self.sizes:
            code = torch.round(x[:, column] - self.low[column])[:, None]
            parts.append((code == torch.arange(size, device=x.device)).float())
        return torch.cat(parts, dim=1)


class Mlp(nn.Module):
    """Logits `[n k]` from examples of any shape, flattened; from tables through `Columns`."""

    def __init__(self, spec: Spec, hidden: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        table = Columns(spec) if spec.kind == "tabular" else None
        width = table.width if table is not None else int(torch.tensor(spec.model_shape).prod())
        self.columns: nn.Module = table if table is not None else nn.Flatten()
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(width, units), nn.ReLU()] + ([nn.Dropout(dropout)] if dropout > 0 else [])
            width = units
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(width, spec.classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        logits: torch.Tensor = self.head(self.layers(self.columns(x)))
        return logits


class Cnn1d(nn.Module):
    """Logits `[n k]` from series `[n c t]`: convolutions of 5, 3 and 3 points with stride 2, ReLU, a linear layer."""

    def __init__(self, channels: int, time: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(channels, width, 5, stride=2, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        for kernel in (5, 3, 3):
            time = (time + 2 - kernel) // 2 + 1
        self.fc = nn.Linear(width * time, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = torch.relu(conv(x))
        logits: torch.Tensor = self.fc(x.flatten(1))
        return logits
