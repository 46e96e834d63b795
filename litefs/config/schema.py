"""Questions about a JSON Schema that reading and completing a document have to ask."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from litefs.config.durations import parse_duration

Json = Any
Subschema = Mapping[str, Any]


class Schema:
    """A JSON Schema and its local references (``#/$defs/...``)."""

    def __init__(self, root: Subschema) -> None:
        self.root = root

    def variants(self, schema: Subschema) -> list[Subschema]:
        """The schema with references followed and ``anyOf``, ``oneOf``, ``allOf`` flattened out."""
        found = [schema]
        if "$ref" in schema:
            found += self.variants(self._target(schema["$ref"]))
        for keyword in ("anyOf", "oneOf", "allOf"):
            for branch in schema.get(keyword, ()):
                found += self.variants(branch)
        return found

    def types(self, schema: Subschema) -> set[str]:
        """The JSON types that the schema names; empty where it leaves them open."""
        types: set[str] = set()
        for variant in self.variants(schema):
            named = variant.get("type", ())
            types.update([named] if isinstance(named, str) else named)
        return types

    def keyword(self, schema: Subschema, name: str) -> Json:
        """The value of a keyword, from the schema itself before what it refers to; None where it has none."""
        return next((variant[name] for variant in self.variants(schema) if name in variant), None)

    def properties(self, schema: Subschema) -> dict[str, Subschema]:
        """The properties that an object of this schema is known to have."""
        found: dict[str, Subschema] = {}
        for variant in self.variants(schema):
            found.update(variant.get("properties", {}))
        return found

    def child(self, schema: Subschema, key: str) -> Subschema:
        """The schema of a property; an empty one, which allows anything, where it is not described."""
        found = self.properties(schema).get(key)
        if found is None:
            found = self.keyword(schema, "additionalProperties")
        return found if isinstance(found, Mapping) else {}

    def item(self, schema: Subschema) -> Subschema:
        """The schema of an array's items."""
        found = self.keyword(schema, "items")
        return found if isinstance(found, Mapping) else {}

    def _target(self, reference: str) -> Subschema:
        here: Any = self.root
        if not reference.startswith("#"):
            return {}
        for step in reference[1:].split("/")[1:]:
            here = here.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(here, Mapping) else {}
        return here if isinstance(here, Mapping) else {}

    def complete(self, schema: Subschema, value: Json) -> Json:
        """A copy of the value in which absent properties have their defaults."""
        if isinstance(value, list):
            return [self.complete(self.item(schema), item) for item in value]
        if not isinstance(value, dict):
            return value
        done = {key: self.complete(self.child(schema, key), item) for key, item in value.items()}
        for key, child in self.properties(schema).items():
            default = self.keyword(child, "default")
            if key not in done and default is not None:
                done[key] = copy.deepcopy(default)
        return done

    def in_seconds(self, schema: Subschema, value: Json) -> Json:
        """A copy of the value in which durations are numbers of seconds."""
        if isinstance(value, list):
            return [self.in_seconds(self.item(schema), item) for item in value]
        if isinstance(value, dict):
            return {key: self.in_seconds(self.child(schema, key), item) for key, item in value.items()}
        if isinstance(value, str) and self.keyword(schema, "format") == "go-duration":
            return parse_duration(value)
        return value
