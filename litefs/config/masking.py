"""Hides secrets: values that the schema marks ``writeOnly``, and passwords in URLs."""

from __future__ import annotations

import re

from litefs.config.schema import Json, Schema, Subschema

MASK = "********"

_URL_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):([^/@\s]*)(?=@)")


def masked(schema: Schema, value: Json) -> Json:
    """A copy of a document whose secrets are replaced by asterisks; empty ones stay empty."""
    return _masked(schema, schema.root, value)


def _masked(schema: Schema, sub: Subschema, value: Json) -> Json:
    if schema.keyword(sub, "writeOnly") and value not in ("", None):
        return MASK
    if isinstance(value, dict):
        return {key: _masked(schema, schema.child(sub, key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(schema, schema.item(sub), item) for item in value]
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1:{MASK}", value)
    return value
