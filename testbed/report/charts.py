"""The charts of the page as Vega-Lite specifications, each embedded once; the page fills in `data.values`.

Colours and fonts are the page's own (see assets/charts.js), so that they follow its light and dark themes. A band or
a bar is a confidence interval. Every chart is as wide as what holds it.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

HEIGHT = 220

#: The mark of a failed cell.
CROSS = "M-1,-1L1,1M1,-1L-1,1"


def specs() -> dict[str, Spec]:
    """All charts by the name that the page asks for."""
    return {"curve": curve(), "reliability": reliability(), "histogram": histogram(), "roc": roc()}


def _layered(*layers: Spec, height: int = HEIGHT) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding", "resize": True},
        "data": {"values": []},
        "layer": list(layers),
    }


def _quantity(field: str, title: str | None, **scale: Any) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False, **scale}}


def curve() -> Spec:
    """Lines with interval bands: fields x, value, low, high, colour, dash, failed, mark; a cross is a failed cell.

    `mark` stands above its point, empty where nothing speaks against the number.

    One legend stands above all curves of a section, so that the charts have none of their own.
    """
    series: Spec = {
        "x": _quantity("x", None, nice=False) | {"axis": {"tickCount": 6, "format": "~g", "labelOverlap": "greedy"}},
        "color": {"field": "colour", "type": "nominal", "legend": None},
    }
    dash: Spec = {"strokeDash": {"field": "dash", "type": "nominal", "legend": None}}
    detail: Spec = {"detail": {"field": "dash"}}
    shown = {"transform": [{"filter": "!datum.failed"}]}
    value = {"y": _quantity("value", None)}
    band = {"y": _quantity("low", None), "y2": {"field": "high"}}
    return _layered(
        {**shown, "mark": {"type": "area", "opacity": 0.14}, "encoding": {**series, **detail, **band}},
        {**shown, "mark": {"type": "line", "strokeWidth": 2}, "encoding": {**series, **dash, **value}},
        {**shown, "mark": {"type": "point", "filled": True, "size": 40, "opacity": 1},
         "encoding": {**series, **value, "tooltip": {"field": "tip"}}},
        {"transform": [{"filter": "datum.failed"}],
         "mark": {"type": "point", "shape": CROSS, "size": 90, "filled": False, "strokeWidth": 2.5, "opacity": 1},
         "encoding": {**series, "y": {"value": {"expr": "height - 8"}}, "tooltip": {"field": "tip"}}},
        {"transform": [{"filter": "!datum.failed && datum.mark"}],
         "mark": {"type": "text", "dy": -10, "fontSize": 14, "fontWeight": "bold"},
         "encoding": {**series, **value, "text": {"field": "mark"}, "tooltip": {"field": "tip"}}},
    )  # fmt: skip


def reliability() -> Spec:
    """Accuracy with its interval against mean confidence of each bin, on the share of examples in it, and y = x."""
    x, y = {"domain": [0, 1]}, {"scale": {"domain": [0, 1]}}
    unit: Spec = {"field": "confidence", "type": "quantitative", "title": "confidence", "scale": x}
    ends: Spec = {"x": {"datum": 0, "type": "quantitative", "scale": x}, "y": {"datum": 0, "type": "quantitative", **y},
                  "x2": {"datum": 1}, "y2": {"datum": 1}}  # fmt: skip
    bins: Spec = {
        "x": {"field": "from", "type": "quantitative", "scale": x, "title": "confidence"},
        "x2": {"field": "to"},
    }
    tip = {"tooltip": {"field": "tip"}}
    return _layered(
        {"mark": {"type": "rect", "opacity": 0.3, "color": {"expr": "muted"}},
         "encoding": {**bins, "y": {"field": "share", "type": "quantitative", "title": "accuracy · share in grey", **y},
                      "y2": {"datum": 0}, **tip}},
        {"mark": {"type": "rule", "strokeDash": [4, 4], "color": {"expr": "ink"}, "opacity": 0.5}, "encoding": ends},
        {"mark": {"type": "rule", "color": {"expr": "accent"}, "strokeWidth": 2},
         "encoding": {"x": unit, "y": {"field": "low", "type": "quantitative", **y}, "y2": {"field": "high"}}},
        {"mark": {"type": "line", "color": {"expr": "accent"}, "strokeWidth": 1, "opacity": 0.6},
         "encoding": {"x": unit, "y": {"field": "accuracy", "type": "quantitative", **y}}},
        {"mark": {"type": "point", "color": {"expr": "accent"}, "filled": True, "opacity": 1, "size": 45},
         "encoding": {"x": unit, "y": {"field": "accuracy", "type": "quantitative", **y}, **tip}},
    ) | {"params": _theme()}  # fmt: skip


def histogram() -> Spec:
    """Score histograms of the ID and the OOD set over common bins: fields from, to, share, set."""
    colour = {
        "field": "set",
        "type": "nominal",
        "title": None,
        "legend": {"orient": "bottom"},
        "sort": None,
    }  # ID first
    return _layered(
        {"mark": {"type": "rect", "opacity": 0.5},
         "encoding": {"x": _quantity("from", "score (larger = more OOD)", nice=False), "x2": {"field": "to"},
                      "y": {"field": "share", "type": "quantitative", "title": "share of the set"}, "y2": {"datum": 0},
                      "color": colour, "tooltip": {"field": "tip"}}},
    )  # fmt: skip


def roc() -> Spec:
    """The ROC curve with both operating points: fields fpr, tpr, order; a point has a name."""
    axis = {"domain": [0, 1]}
    fpr: Spec = {"field": "fpr", "type": "quantitative", "title": "ID flagged as OOD", "scale": axis}
    tpr: Spec = {"field": "tpr", "type": "quantitative", "title": "OOD flagged", "scale": axis}
    point: Spec = {"field": "name", "type": "nominal", "title": None, "legend": {"orient": "bottom"}}
    return _layered(
        {"transform": [{"filter": "!datum.name"}], "mark": {"type": "line", "color": {"expr": "accent"}},
         "encoding": {"x": fpr, "y": tpr, "order": {"field": "order"}}},
        {"transform": [{"filter": "datum.name"}], "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
         "encoding": {"x": fpr, "y": tpr, "color": point, "shape": point, "tooltip": {"field": "tip"}}},
    ) | {"params": _theme()}  # fmt: skip


def _theme() -> list[Spec]:
    """Colours that the page sets from its theme; these are the light ones, for export to SVG and PDF."""
    return [
        {"name": "ink", "value": "#1f2430"},
        {"name": "muted", "value": "#8a93a3"},
        {"name": "accent", "value": "#2563c9"},
    ]
