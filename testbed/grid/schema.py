"""The JSON schema of a grid, with the parameters of every installed plug-in, for editors.

The fixed keys come from the pydantic models. Wherever a plug-in is named, the schema offers one alternative a plug-in
(its name as a constant, its parameters with types and defaults), and any path or module reference beside.
"""

from __future__ import annotations

from typing import Any

from testbed import plugins
from testbed.grid.model import Grid

#: Definition in the pydantic schema -> kind of plug-in it names.
_HOLDS = {"Data": "dataset", "Model": "model", "Calibrator": "calibrator", "Detector": "detector"}
_REFERENCE = {
    "type": "string",
    "pattern": r"(\.py:|^[A-Za-z_][\w.]*:)\w+$",
    "description": "a file or an installed module: ./mine.py:name, pkg.mod:Name",
}


def json_schema() -> dict[str, Any]:
    """The schema as a plain dict (draft 2020-12)."""
    schema: dict[str, Any] = Grid.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "testbed grid"
    definitions = schema["$defs"]
    for properties in (schema["properties"], *(d.get("properties", {}) for d in definitions.values())):
        for name, value in properties.items():
            properties[name] = one_or_many(value)
    for kind in plugins.KINDS:
        for name in plugins.installed(kind):
            definitions[f"{kind}:{name}"] = plugin_schema(kind, name)
        definitions[f"{kind}s"] = {"anyOf": [{"enum": sorted(names(kind))}, _REFERENCE]}
    for definition, kind in _HOLDS.items():
        holder(definitions, definition, kind)
    definitions["Ood"]["properties"]["use"] = {
        "anyOf": [{"$ref": "#/$defs/datasets"}, {"type": "array", "items": {"$ref": "#/$defs/datasets"}}]
    }
    schema["properties"]["data"] = listed({"$ref": "#/$defs/Data"}, "dataset")
    schema["properties"]["models"] = listed({"$ref": "#/$defs/Model"}, "model")
    schema["properties"]["calibrators"] = listed({"$ref": "#/$defs/Calibrator"}, "calibrator")
    schema["properties"]["detectors"] = listed({"$ref": "#/$defs/Detector"}, "detector")
    schema["properties"]["ood"] = listed({"$ref": "#/$defs/Ood"}, "dataset")
    schema["properties"]["metrics"] = listed(use("metric"), "metric")
    definitions["ShiftCondition"]["properties"]["shift"] = listed(use("shift"), "shift")
    definitions["AttackCondition"]["properties"]["attack"] = listed(use("attack"), "attack")
    return schema


def one_or_many(value: dict[str, Any]) -> dict[str, Any]:
    """Where a list of plain values may stand, one of them may too; a number may be written as a fraction.

    >>> one_or_many({"type": "array", "items": {"type": "number"}})["anyOf"][0]
    {'type': ['number', 'string']}
    """
    if "anyOf" in value:
        return {**value, "anyOf": [one_or_many(option) for option in value["anyOf"]]}
    if value.get("type") == "number":
        return {**value, "type": ["number", "string"]}
    if value.get("type") != "array" or "items" not in value:
        return value
    items = one_or_many(value["items"])
    return {"anyOf": [items, {**{k: v for k, v in value.items() if k != "default"}, "items": items}]}


def names(kind: str) -> set[str]:
    """Every spelling of the installed names of a kind: with underscores and with hyphens."""
    found = set(plugins.installed(kind))
    return found | {name.replace("_", "-") for name in found}


def listed(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """One item, its bare name, or a list of either."""
    one = {"anyOf": [{"$ref": f"#/$defs/{kind}s"}, item]}
    return {"anyOf": [one, {"type": "array", "items": one}]}


def use(kind: str) -> dict[str, Any]:
    """A mapping with `use` and the parameters of the plug-in it names."""
    base = {"type": "object", "required": ["use"], "properties": {"use": {"$ref": f"#/$defs/{kind}s"}}}
    return {**base, "allOf": [when(kind, name) for name in plugins.installed(kind)]}


def holder(definitions: dict[str, Any], definition: str, kind: str) -> None:
    """Complete the definition of an entry that names a plug-in beside keys of its own."""
    target = definitions[definition]
    target["properties"]["use"] = {"$ref": f"#/$defs/{kind}s"}
    target["allOf"] = [when(kind, name) for name in plugins.installed(kind)]


def when(kind: str, name: str) -> dict[str, Any]:
    """If `use` is this plug-in, then its parameters."""
    spelled = sorted({name, name.replace("_", "-")})
    return {
        "if": {"properties": {"use": {"enum": spelled}}, "required": ["use"]},
        "then": {"$ref": f"#/$defs/{kind}:{name}"},
    }


def plugin_schema(kind: str, name: str) -> dict[str, Any]:
    """The parameters of one installed plug-in as an open object (keys of the entry stand beside them)."""
    plugin = plugins.read(kind, name)
    found: dict[str, Any] = plugins.schema(plugin).model_json_schema()
    found.pop("additionalProperties", None)
    found.pop("required", None)
    for parameter in found.get("properties", {}).values():
        if parameter.get("type") == "number":
            parameter["type"] = ["number", "string"]
    found["title"] = f"{kind} {name}"
    return found
