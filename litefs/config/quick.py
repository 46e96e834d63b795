"""A validator that knows the plain part of JSON Schema and can only say "surely valid" or "ask the real one".

Importing jsonschema costs 50 ms, a sixth of the time in which a node must be mounted, and a node's file is nearly
always valid.  So the real validator is loaded only where this one is not sure; what an error is, it alone decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from litefs.config.schema import Json, Subschema

_ANNOTATIONS = {"$schema", "$defs", "$comment", "title", "description", "default", "examples", "format", "writeOnly"}
_ANNOTATIONS |= {"deprecated", "errorMessage"}
_TYPES: dict[str, Callable[[Json], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "null": lambda value: value is None,
}


def surely_valid(root: Subschema, value: Json) -> bool:
    """Whether the value satisfies the schema beyond doubt."""
    try:
        return _Quick(root).accepts(root, value)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError, re.error):
        return False  # a malformed schema: the real validator says what is wrong with it


class _Quick:
    def __init__(self, root: Subschema) -> None:
        self.root = root

    def accepts(self, schema: Subschema | bool, value: Json) -> bool:
        if isinstance(schema, bool):
            return schema
        return all(
            keyword in _ANNOTATIONS or self._keyword(schema, keyword, argument, value)
            for keyword, argument in schema.items()
        )

    def _keyword(self, schema: Subschema, keyword: str, argument: Any, value: Json) -> bool:
        if keyword == "type":
            return any(_TYPES[name](value) for name in ([argument] if isinstance(argument, str) else argument))
        if keyword == "$ref":
            return self.accepts(self._target(argument), value)
        if keyword == "anyOf":
            return any(self.accepts(branch, value) for branch in argument)
        if isinstance(value, dict):
            return self._object(schema, keyword, argument, value)
        if isinstance(value, list):
            return keyword == "items" and all(self.accepts(argument, item) for item in value)
        return self._scalar(keyword, argument, value)

    def _object(self, schema: Subschema, keyword: str, argument: Any, value: dict[str, Json]) -> bool:
        if keyword == "properties":
            return all(self.accepts(argument[key], value[key]) for key in argument.keys() & value.keys())
        if keyword == "required":
            return value.keys() >= set(argument)
        if keyword == "additionalProperties":
            known = schema.get("properties", {})
            return all(self.accepts(argument, value[key]) for key in value.keys() - known.keys())
        return False

    def _scalar(self, keyword: str, argument: Any, value: Json) -> bool:
        if keyword == "enum":
            return isinstance(value, str) and value in argument
        if keyword == "pattern":
            return isinstance(value, str) and re.search(argument, value) is not None
        if keyword == "minimum":
            return type(value) is int and value >= argument
        if keyword == "maximum":
            return type(value) is int and value <= argument
        return False

    def _target(self, reference: str) -> Subschema:
        start, slash, name = reference.rpartition("/")
        if start != "#/$defs" or not slash:
            raise KeyError(reference)
        found: Subschema = self.root["$defs"][name]
        return found
