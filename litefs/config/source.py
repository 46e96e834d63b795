"""YAML text to plain values, with the line of every key.

The schema decides how a word without quotes is read, as the Go structs of LiteFS do: where text is expected ``1e3`` and
``no`` are text; where a boolean is expected ``yes`` is true.  An empty value counts as absent, so the default applies;
for a boolean that is an error: an environment variable that is not set must not make a node a candidate.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from litefs.config.problems import KeyPath, Problem
from litefs.config.schema import Json, Schema, Subschema

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SPOKEN_BOOLEANS = {"y": True, "Y": True, "yes": True, "on": True, "n": False, "N": False, "no": False, "off": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_MERGE = "tag:yaml.org,2002:merge"
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MOST_VALUES = 100_000  # aliases of aliases grow without bound

EMPTY_BOOLEAN = "is empty, where true or false is expected"
EMPTY_BOOLEAN_HINT = (
    "is the environment variable set that it comes from? Write ${NAME == 'x'} to compare, or drop the line"
)


class _Absent:
    """Stands for an empty value."""


_ABSENT = _Absent()


MAX_DEPTH = 200  # lists and sections within each other


@dataclass
class Document:
    """What was read: ``value`` is None for a document without content."""

    value: Json = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, key: KeyPath) -> int:
        """The line of a key, counted from 1; of the nearest one around it where it is not in the document."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


class NotYAML(Exception):
    """The text is not YAML.  Holds the line and what is wrong; never the text itself, which may hold secrets."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


def read(text: str, schema: Schema) -> Document:
    """Parse YAML text.  Raises NotYAML; faults of single keys are listed in the document instead."""
    try:
        return _read(text, schema)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error) from None
    except yaml.YAMLError as error:
        reason = str(getattr(error, "reason", "")) or "not YAML"
        raise NotYAML(_line_at(text, getattr(error, "position", 0)), reason) from None
    except UnicodeEncodeError as error:
        raise NotYAML(_line_at(text, error.start), "an environment variable used here is not UTF-8 text") from None
    except RecursionError:
        raise NotYAML(1, "nested too deeply") from None


def _read(text: str, schema: Schema) -> Document:
    _check_depth(text)
    node = yaml.compose(text, Loader=_LOADER)
    reader = _Reader(schema)
    if node is not None:
        value = reader.value(node, schema.root, ())
        reader.document.value = None if value is _ABSENT else value
    return reader.document


def _check_depth(text: str) -> None:
    """Raises RecursionError: libyaml's composer goes down as deep as it is told to, and ends the process there."""
    if sum(map(text.count, "[{-:?")) <= MAX_DEPTH:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise RecursionError
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _not_yaml(error: yaml.MarkedYAMLError) -> NotYAML:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    reason = " ".join(part for part in (error.context, error.problem) if part)
    if mark and begun and begun.line != mark.line:
        reason += f" (begun on line {begun.line + 1})"
    return NotYAML(mark.line + 1 if mark else 1, reason)


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


class _Reader:
    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.document = Document()
        self.open: list[yaml.Node] = []
        self.size = 0

    def value(self, node: yaml.Node, schema: Subschema, key: KeyPath) -> Json | _Absent:
        line = self.document.lines.setdefault(key, node.start_mark.line + 1)
        self.size += 1
        if self.size > _MOST_VALUES:
            raise NotYAML(line, "too many values: does an alias refer to many others?")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, schema, key)
        if any(node is outer for outer in self.open):
            self._problem(key, "an alias that contains itself")
            return None
        self.open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return self._sequence(node, self.schema.item(schema), key)
            return self._mapping(node, schema, key)
        finally:
            self.open.pop()

    def _sequence(self, node: yaml.SequenceNode, schema: Subschema, key: KeyPath) -> list[Json]:
        values = [self.value(item, schema, (*key, place)) for place, item in enumerate(node.value)]
        return [None if value is _ABSENT else value for value in values]

    def _mapping(self, node: yaml.Node, schema: Subschema, key: KeyPath) -> dict[str, Json]:
        result: dict[str, Json] = {}
        merged: dict[str, Json] = {}
        for name_node, item in node.value:
            if name_node.tag == _MERGE:
                merged = {**self._merge(item, schema, key), **merged}
                continue
            name = str(name_node.value) if isinstance(name_node, yaml.ScalarNode) else "?"
            path = (*key, name)
            if name in result:
                first, line = self.document.lines[path], name_node.start_mark.line + 1
                self._problem(path, f"given twice, first on line {first}", "remove one of them", line)
                continue
            self.document.lines[path] = name_node.start_mark.line + 1
            result[name] = self.value(item, self.schema.child(schema, name), path)
        return {name: value for name, value in {**merged, **result}.items() if value is not _ABSENT}

    def _merge(self, node: yaml.Node, schema: Subschema, key: KeyPath) -> dict[str, Json]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Json] = {}
        for source in reversed(sources):
            value = self.value(source, schema, key)
            if isinstance(value, dict):
                merged |= value
        return merged

    def _scalar(self, node: yaml.ScalarNode, schema: Subschema, key: KeyPath) -> Json | _Absent:
        text = str(node.value)
        allowed = self.schema.types(schema)
        plain = not node.style  # None or "", depending on the parser
        if plain and text in _NULL:
            return self._empty(allowed, key)
        if "boolean" in allowed and text in _SPOKEN_BOOLEANS:
            return _SPOKEN_BOOLEANS[text]
        value, kind = _resolve(text) if plain else (text, "string")
        if kind not in allowed and "string" in allowed:
            return text
        return value

    def _empty(self, allowed: set[str], key: KeyPath) -> _Absent:
        if "boolean" in allowed:
            self._problem(key, EMPTY_BOOLEAN, EMPTY_BOOLEAN_HINT)
        return _ABSENT

    def _problem(self, key: KeyPath, message: str, hint: str = "", line: int | None = None) -> None:
        self.document.problems.append(Problem(key, message, hint, line))


def _resolve(text: str) -> tuple[Json, str]:
    """The value of a word without quotes by YAML 1.2's core rules, and its JSON type."""
    if text in _BOOLEANS:
        return _BOOLEANS[text], "boolean"
    if _INTEGER.fullmatch(text):
        return int(text), "integer"
    if _FLOAT.fullmatch(text):
        return float(text), "number"
    return text, "string"
