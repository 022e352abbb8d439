"""The charts of a stream's page as Vega-Lite specifications; the page fills in values, segments and colours.

Every chart has steps across, the segments as shades and names above, and their borders as rules.
"""

from __future__ import annotations

from testbed.report.charts import Spec

HEIGHT = 200


def stream_specs() -> dict[str, Spec]:
    """All charts by the name that the page asks for."""
    return {"rolling": rolling(), "drift": drift(), "updates": updates()}


def _over_steps(*layers: Spec) -> Spec:
    shade: Spec = {
        "data": {"values": []},
        "mark": {"type": "rect", "color": {"expr": "muted"}},
        "encoding": {
            "x": {"field": "first", "type": "quantitative"},
            "x2": {"field": "last"},
            "opacity": {"condition": {"test": "datum.drifted", "value": 0.13}, "value": 0},
            "tooltip": {"field": "title"},
        },
    }
    border: Spec = {
        "data": {"values": []},
        "mark": {"type": "rule", "color": {"expr": "muted"}, "opacity": 0.5, "strokeDash": [2, 3]},
        "encoding": {"x": {"field": "first", "type": "quantitative"}},
    }
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": HEIGHT,
        "autosize": {"type": "fit", "contains": "padding", "resize": True},
        "params": [
            {"name": "ink", "value": "#1f2430"},
            {"name": "muted", "value": "#8a93a3"},
            {"name": "accent", "value": "#2563c9"},
        ],
        "data": {"values": []},
        "layer": [shade, border, *layers],
    }


def _step() -> Spec:
    return {
        "field": "step",
        "type": "quantitative",
        "title": "examples seen",
        "scale": {"nice": False},
        "axis": {"format": "~s", "tickCount": 8, "labelOverlap": "greedy", "grid": False},
    }


def _value(field: str = "value") -> Spec:
    return {"field": field, "type": "quantitative", "title": None, "scale": {"zero": False}}


def _target(y: Spec) -> Spec:
    """A dashed rule; the page says where, or takes the layer out."""
    mark: Spec = {"type": "rule", "color": {"expr": "ink"}, "strokeDash": [5, 4], "opacity": 0.7}
    return {"data": {"values": []}, "mark": mark, "encoding": {"y": {**y, "field": "target"}}}


_ENDS: Spec = {"y": _value("low"), "y2": {"field": "high"}}
_ALARM: Spec = {"field": "alarm", "type": "nominal", "legend": None}
_TIP: Spec = {"field": "tip"}


def rolling() -> Spec:
    """Lines with interval bands by calibrator: fields step, value, low, high, calibrator, tip; a dashed target."""
    colour: Spec = {"field": "calibrator", "type": "nominal", "legend": None}
    line: Spec = {"x": _step(), "color": colour, "y": _value(), "tooltip": {"field": "calibrator"}}
    return _over_steps(
        _target(_value()),
        {"mark": {"type": "area", "opacity": 0.13}, "encoding": {"x": _step(), "color": colour, **_ENDS}},
        {"mark": {"type": "line", "strokeWidth": 1.8}, "encoding": line},
        {
            "mark": {"type": "point", "filled": True, "size": 26, "opacity": 0},
            "encoding": {"x": _step(), "y": _value(), "tooltip": _TIP},
        },
    )


def drift() -> Spec:
    """p-values of one detector's tests on a logarithmic axis: fields step, value, alarm, tip; a dashed level."""
    scale: Spec = {"type": "log", "nice": False, "clamp": True}
    y: Spec = {**_value(), "scale": scale, "title": "p-value", "axis": {"format": "~e", "tickCount": 5}}
    point: Spec = {"x": _step(), "y": y, "color": _ALARM, "shape": _ALARM, "tooltip": _TIP}
    return _over_steps(
        _target(y), {"mark": {"type": "point", "filled": True, "size": 45, "opacity": 1}, "encoding": point}
    )


def updates() -> Spec:
    """Trials of one online calibrator: change of the metric with its interval, marked where it was rolled back."""
    point: Spec = {"x": _step(), "y": _value(), "color": _ALARM, "shape": _ALARM, "tooltip": _TIP}
    return _over_steps(
        _target(_value()),
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {"x": _step(), "color": _ALARM, **_ENDS}},
        {"mark": {"type": "point", "filled": True, "size": 60, "opacity": 1}, "encoding": point},
    )
