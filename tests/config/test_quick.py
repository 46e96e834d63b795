"""The quick validator may be unsure, never wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from litefs.config.merged import merged_schema
from litefs.config.quick import surely_valid
from litefs.plugins import Plugins

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer", "minimum": 2}}, "additionalProperties": False},
    {"type": "object", "required": ["a"], "additionalProperties": {"type": "boolean"}},
    {
        "anyOf": [{"type": "string", "pattern": "^a+$"}, {"type": "array", "items": {"$ref": "#/$defs/x"}}],
        "$defs": {"x": {"enum": ["a", ""]}},
    },
    {"type": ["string", "null"], "description": "d"},
    {"type": "number", "maximum": 3},
    {"properties": {"a": False}},
    {"const": 1},
    {"$ref": "#/$defs/missing"},
    {"not": {"type": "string"}},
    {"minLength": 2},
    {"items": {"type": "string"}},
    {"required": ["a"]},
    {"enum": [1, "a", None]},
    {"type": "strin"},
]
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 5), st.floats(-2, 4), st.sampled_from(["", "a", "aa", "b"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=6,
)


@given(st.sampled_from(SCHEMAS), VALUES)
def test_sure_means_valid(schema: dict[str, Any], value: Any) -> None:
    if surely_valid(schema, value):
        assert Draft202012Validator(schema).is_valid(value)


def test_an_ordinary_file_needs_no_other_validator(plugins: Plugins) -> None:
    value = {
        "fuse": {"dir": "/litefs"},
        "data": {"dir": "/data", "retention": "1h30m", "compress": False},
        "lease": {"type": "sample", "sample": {"key": "a"}, "databases": ["a"], "candidate": False},
        "exec": [{"cmd": "a", "if-candidate": True}, {"cmd": "b"}],
        "log": {"format": "json"},
        "tracing": {"max-size": 5},
        "skip-sync": True,
    }
    schema = merged_schema(plugins)
    assert surely_valid(schema, value)
    assert surely_valid(schema, {**value, "exec": "a b"})


@pytest.mark.parametrize(
    "change",
    [
        {"x": 1},
        {"exec": 5},
        {"exec": [{"if-candidate": True}]},
        {"log": {"format": "xml"}},
        {"data": {"retention": "1"}},
    ],
)
def test_a_wrong_file_is_left_to_the_other_validator(plugins: Plugins, change: dict[str, Any]) -> None:
    assert not surely_valid(merged_schema(plugins), {"lease": {"type": "static"}, **change})
