"""The JSON schema of a stream file, for editors.

Data sets, models, conditions and calibrators are those of the grid's schema, which lies beside it as
`grid.schema.json`; so a new plug-in changes only that file.
"""

from __future__ import annotations

from typing import Any

from testbed.grid.schema import one_or_many
from testbed.grid.stream_model import Stream

GRID = "grid.schema.json#/$defs/"

#: Definitions that the grid's schema completes with the installed plug-ins.
_THEIRS = ("Data", "Model", "Calibrator", "Runtime", "ShiftCondition", "AttackCondition", "ChainCondition", "Train")


def stream_schema() -> dict[str, Any]:
    """The schema as a plain dict (draft 2020-12)."""
    schema: dict[str, Any] = Stream.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "testbed stream"
    own = {name: body for name, body in schema.pop("$defs").items() if name not in _THEIRS and name != "Use"}
    for properties in (schema["properties"], *(body.get("properties", {}) for body in own.values())):
        for name, value in properties.items():
            properties[name] = _elsewhere(one_or_many(value))
    schema["properties"]["data"] = _named("Data", "datasets")
    schema["properties"]["model"] = _named("Model", "models")
    calibrator = _named("Calibrator", "calibrators")
    schema["properties"]["calibrators"] = {"anyOf": [calibrator, {"type": "array", "items": calibrator, "minItems": 1}]}
    schema["properties"]["rollback"] = {"anyOf": [{"$ref": "#/$defs/Rollback"}, {"type": "null"}]}
    schema["$defs"] = own
    return schema


def _named(definition: str, names: str) -> dict[str, Any]:
    """An entry of the grid's schema, or a bare name."""
    return {"anyOf": [{"$ref": GRID + names}, {"$ref": GRID + definition}]}


def _elsewhere(value: Any) -> Any:
    """The same with references to the grid's definitions made relative to its file."""
    if isinstance(value, dict):
        found = {key: _elsewhere(item) for key, item in value.items() if key != "discriminator"}
        name = str(value.get("$ref", "")).removeprefix("#/$defs/")
        return {**found, "$ref": GRID + name} if name in _THEIRS else found
    return [_elsewhere(item) for item in value] if isinstance(value, list) else value
