"""YAML to plain values: types by the schema, lines, duplicate keys, aliases."""

from __future__ import annotations

from typing import Any

import pytest

from litefs.config.problems import Problem
from litefs.config.schema import Schema
from litefs.config.source import EMPTY_BOOLEAN, Document, NotYAML, read

SCHEMA = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "flag": {"type": "boolean"},
        "count": {"type": "integer"},
        "texts": {"$ref": "#/$defs/texts"},
        "either": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/$defs/inner"}}]},
        "inner": {"$ref": "#/$defs/inner"},
    },
    "$defs": {
        "texts": {"type": "array", "items": {"type": "string"}},
        "inner": {"type": "object", "properties": {"text": {"type": "string"}, "flag": {"type": "boolean"}}},
    },
}


def parse(text: str) -> Document:
    return read(text, Schema(SCHEMA))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("text: 1e3", "1e3"),
        ("text: 0123", "0123"),
        ("text: no", "no"),
        ("text: true", "true"),
        ("text: 2026-01-02", "2026-01-02"),
        ("text: 12:30:00", "12:30:00"),
        ("text: ''", ""),
        ("flag: true", True),
        ("flag: True", True),
        ("flag: FALSE", False),
        ("flag: yes", True),
        ("flag: off", False),
        ("flag: 'true'", "true"),
        ("flag: 1", 1),
        ("count: 64", 64),
        ("count: '64'", "64"),
        ("count: 1.5", 1.5),
        ("count: 010", 10),
        ("texts: [1, yes, a]", ["1", "yes", "a"]),
        ("texts: []", []),
        ("either: 5", "5"),
        ("either: [{text: 5, flag: on}]", [{"text": "5", "flag": True}]),
        ("other: 5", 5),
        ("other: yes", "yes"),
        ("other: {a: [1, x, null]}", {"a": [1, "x", None]}),
        ("other: 99999999999999999999999", 1e23),
    ],
)
def test_values(text: str, value: Any) -> None:
    document = parse(text)
    assert list(document.value.values()) == [value]
    assert type(next(iter(document.value.values()))) is type(value)
    assert document.problems == []


@pytest.mark.parametrize("text", ["text:", "text: ~", "text: null", "count:", "texts:", "inner:", "either:"])
def test_empty_values_are_absent(text: str) -> None:
    assert parse(text).value == {}


def test_an_empty_boolean_is_a_problem() -> None:
    document = parse("inner:\n  text: a\n  flag:\n")
    assert [(problem.key, problem.message) for problem in document.problems] == [(("inner", "flag"), EMPTY_BOOLEAN)]
    assert document.line(("inner", "flag")) == 3


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n", "---\n", "null"])
def test_no_content(text: str) -> None:
    assert parse(text).value is None


def test_lines() -> None:
    document = parse("# c\ntext: a\ninner:\n  text: |\n    x\n    y\n  flag: no\neither:\n- text: a\n- {flag: yes}\n")
    assert document.line(("text",)) == 2
    assert document.line(("inner", "text")) == 4
    assert document.line(("inner", "flag")) == 7
    assert document.line(("either", 1, "flag")) == 10
    assert document.line(("inner", "absent")) == 3
    assert document.line(()) == 2


def test_duplicate_keys() -> None:
    document = parse("text: a\ncount: 1\ntext: b\n")
    assert document.value["text"] == "a"
    assert document.problems == [Problem(("text",), "given twice, first on line 1", "remove one of them", 3)]


def test_anchors_aliases_and_merge_keys() -> None:
    document = parse("base: &b {text: 1, flag: yes}\ninner:\n  <<: *b\n  text: 2\nother: *b\n")
    assert document.value["inner"] == {"text": "2", "flag": True}
    assert parse("other: [&a {x: 1}, {<<: [*a, {x: 2, y: 3}]}]").value == {"other": [{"x": 1}, {"x": 1, "y": 3}]}


def test_an_alias_inside_itself() -> None:
    assert [problem.message for problem in parse("other: &a [*a]").problems] == ["an alias that contains itself"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: [\nc: 2\nd: 3\n", 4), ("a: 1\n\tb: 2\n", 2), ("a: b: c", 1), ("a: *x\n", 1), ("a: 1\n---\nb: 2\n", 2)],
)
def test_not_yaml(text: str, line: int) -> None:
    with pytest.raises(NotYAML) as error:
        parse(text)
    assert error.value.line == line
    assert error.value.reason


def test_not_yaml_does_not_quote_the_text() -> None:
    with pytest.raises(NotYAML) as error:
        parse("text: hunter2: hunter2\n")
    assert "hunter2" not in str(error.value)
    with pytest.raises(NotYAML):
        parse("text: \x00hunter2")


def test_variables_that_are_not_text() -> None:
    with pytest.raises(NotYAML, match="not UTF-8") as error:
        parse("a: 1\ntext: \udcff\n")
    assert error.value.line == 2


def test_nesting_and_aliases_without_end() -> None:
    with pytest.raises(NotYAML, match="nested too deeply"):
        parse("[" * 900 + "]" * 900)
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    with pytest.raises(NotYAML, match="too many values"):
        parse("\n".join(lines))
