"""Shifts of time series: what happens to sensors (Um et al. 2017 for jitter, scaling and warps).

    sensor_dropout    samples lost, the last value held         stuck_at       a channel holds its value from a time on
    bias_drift        a slow ramp added                         gain_drift     a slow ramp of amplification
    spikes            single samples thrown far off             jitter         normal noise on every sample
    time_warp         time runs faster and slower               resampling     a coarser clock, linear in between
    quantisation      fewer levels                              clipping       a smaller range of the sensor

Data are float32 `[n time channels]`. Amounts are fractions of the range of `spec.bounds` and scale with s/5, s the
severity; values stay inside the bounds. Each example is shifted alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from testbed.parameters import Checked, NonNegative, Severity
from testbed.seeding import Rng
from testbed.types import Paper, Spec

UM = Paper(
    "Data augmentation of wearable sensor data for Parkinson's disease monitoring using convolutional neural networks",
    "Um, T. and others",
    2017,
    "ICMI",
    "1706.00527",
)

Series = NDArray[np.float32]


@dataclass(frozen=True)
class SeriesShift(Checked):
    """Base: severity in [0, 5]; `amount` is the strength at severity 5."""

    severity: Severity = 3.0
    amount: NonNegative = 0.5

    version: ClassVar[int] = 1
    kinds: ClassVar[tuple[str, ...]] = ("series",)
    level: ClassVar[str] = "example"
    name: ClassVar[str] = ""
    reference: ClassVar[Paper] = UM

    @property
    def strength(self) -> np.float32:
        """The amount at this severity."""
        return np.float32(self.amount * self.severity / 5)

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """The shifted series; `low`, `high` are the bounds of each channel."""
        raise NotImplementedError

    def __call__(self, x: Series, *, rng: Rng, spec: Spec) -> Series:
        """The shifted series, inside the bounds."""
        pairs = np.broadcast_to(np.asarray(spec.bounds, np.float32), (x.shape[2], 2))
        low, high = pairs[:, 0], pairs[:, 1]
        return np.clip(self.change(x, rng, low, high), low, high).astype(np.float32)


def held(x: Series, lost: NDArray[np.bool_]) -> Series:
    """Lost samples `[n t c]` take the last value that was not; at the start the first one stays.

    >>> held(np.array([[[1.0], [2.0], [3.0]]], np.float32), np.array([[[False], [True], [False]]]))[0, :, 0].tolist()
    [1.0, 1.0, 3.0]
    """
    time = np.arange(x.shape[1])[None, :, None]
    last = np.maximum.accumulate(np.where(lost, 0, time), axis=1)
    return np.take_along_axis(x, last, axis=1)


def read_at(x: Series, time: NDArray[np.float64]) -> Series:
    """Each series `[n t c]` read at `time` `[n t]`, linear between samples, the ends held."""
    last = x.shape[1] - 1
    time = np.clip(time, 0, last)
    before = np.minimum(np.floor(time), max(last - 1, 0)).astype(np.int64)
    after, share = np.minimum(before + 1, last), (time - before)[:, :, None]
    low, high = (np.take_along_axis(x, at[:, :, None], axis=1) for at in (before, after))
    return np.asarray(low + share * (high - low), np.float32)


def ramp(rng: Rng, steps: int, channels: int) -> Series:
    """A straight line from 0 to U(-1, 1) for each channel, float32 `[n steps channels]`."""
    end = rng.uniform((1, channels), -1.0, 1.0, name="end")
    return end * np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]


@dataclass(frozen=True)
class SensorDropout(SeriesShift):
    """Samples lost with probability `amount`; the last value is held."""

    name = "sensor_dropout"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """Hold."""
        return held(x, rng.uniform(x.shape[1:], name="lost") < self.strength)


@dataclass(frozen=True)
class StuckAt(SeriesShift):
    """Each channel holds its value over the last part of the series, of length up to `amount` of it."""

    name = "stuck_at"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """Hold from a drawn time on."""
        length = rng.uniform((1, x.shape[2]), 0.5, 1.0, name="length") * self.strength * x.shape[1]
        return held(x, np.arange(x.shape[1])[None, :, None] >= x.shape[1] - np.ceil(length))


@dataclass(frozen=True)
class BiasDrift(SeriesShift):
    """A ramp that ends up to `amount` of the range away."""

    name = "bias_drift"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """x + ramp."""
        return x + ramp(rng, x.shape[1], x.shape[2]) * self.strength * (high - low)


@dataclass(frozen=True)
class GainDrift(SeriesShift):
    """An amplification, about the middle of the range, that ends up to `amount` away from 1."""

    name = "gain_drift"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """middle + (x - middle) (1 + ramp)."""
        middle = (low + high) / 2
        gain = 1 + ramp(rng, x.shape[1], x.shape[2]) * self.strength
        return np.asarray(middle + (x - middle) * gain, np.float32)


@dataclass(frozen=True)
class Spikes(SeriesShift):
    """Samples thrown to an end of the range with probability `amount`."""

    amount: NonNegative = 0.1

    name = "spikes"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """Ends at the hit samples."""
        ends = np.where(rng.uniform(x.shape[1:], name="end") < 0.5, low, high)
        return np.asarray(np.where(rng.uniform(x.shape[1:], name="hit") < self.strength, ends, x), np.float32)


@dataclass(frozen=True)
class Jitter(SeriesShift):
    """Normal noise of standard deviation `amount` of the range."""

    amount: NonNegative = 0.25

    name = "jitter"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """x + noise."""
        return x + rng.normal(x.shape[1:], name="noise") * self.strength * (high - low)


@dataclass(frozen=True)
class TimeWarp(SeriesShift):
    """Time runs by t + amount T / (2 pi) sin(2 pi t / T + phase), less its value at 0; never back below amount 1."""

    name = "time_warp"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """x at the warped times."""
        steps = x.shape[1]
        time, phase = np.arange(steps), rng.uniform((1,), 0.0, 2 * np.pi, name="phase").astype(np.float64)
        swing = steps / (2 * np.pi) * min(float(self.strength), 0.99)
        return read_at(x, time + swing * (np.sin(2 * np.pi * time / steps + phase) - np.sin(phase)))


@dataclass(frozen=True)
class Resampling(SeriesShift):
    """A clock that ticks only every 1 / (1 - amount) samples, linear in between."""

    name = "resampling"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """Down and up again."""
        steps = x.shape[1]
        coarse = max(2, round(steps * (1 - min(float(self.strength), 0.95))))
        ticks = np.linspace(0, steps - 1, coarse)
        some = read_at(x, np.broadcast_to(ticks, (len(x), coarse)))
        back = np.arange(steps) * ((coarse - 1) / max(steps - 1, 1))
        return read_at(some, np.broadcast_to(back, (len(x), steps)))


@dataclass(frozen=True)
class Quantisation(SeriesShift):
    """Levels a step of `amount` of the range apart."""

    amount: NonNegative = 0.25

    name = "quantisation"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """low + round((x - low) / step) step."""
        step = np.maximum(self.strength * (high - low), np.finfo(np.float32).tiny)
        return np.asarray(low + np.rint((x - low) / step) * step, np.float32)


@dataclass(frozen=True)
class Clipping(SeriesShift):
    """The range of the sensor narrowed by `amount`, from both ends alike."""

    name = "clipping"

    def change(self, x: Series, rng: Rng, low: Series, high: Series) -> Series:
        """Clipped to the narrower range."""
        less = self.strength * (high - low) / 2
        return np.asarray(np.clip(x, low + less, high - less), np.float32)
