"""Checks a document against the merged schema and puts what is wrong into words with a fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from litefs.catalog import distribution, known_types
from litefs.config.durations import FIX
from litefs.config.problems import KeyPath, Problem
from litefs.config.quick import surely_valid
from litefs.config.schema import Json, Schema

ValidationError = Any  # jsonschema's, which is imported late; its attributes are typed too loosely to be of use

TYPED_SECTIONS = ("lease", "backup", "proxy")  # each has a "type", and a section for each of its plugins

_NOUNS = {
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "array": "a list",
    "object": "a section of keys",
    "null": "nothing",
}


def schema_problems(schema: Schema, value: Json, installed: Mapping[str, Sequence[str]]) -> list[Problem]:
    """Everything in which the value departs from the schema.  Imports jsonschema only if there is something.

    Args:
        schema: the merged schema.
        value: the document.
        installed: the types of each of `TYPED_SECTIONS` that plugins bring, for the wording.
    """
    if surely_valid(schema.root, value):
        return []
    from jsonschema import Draft202012Validator

    errors = Draft202012Validator(schema.root).iter_errors(value)
    wording = _Wording(schema, installed)
    return list(dict.fromkeys(problem for error in errors for problem in wording.problems(error)))


def unknown_type(section: str, name: str, installed: Sequence[str]) -> Problem:
    """The problem of a ``lease.type``, ``backup.type`` or ``proxy.type`` for which no plugin is installed."""
    known = known_types(section)
    have = f"installed: {', '.join(installed) or 'none'}"
    if name in known:
        message = f"{section} type '{name}' needs a plugin that is not installed ({have})"
    else:
        types = sorted({*known, *installed} - {""})
        message = f"invalid {section} type, must be {_choice(types)}, got: '{name}' ({have})"
    hint = f"pip install {distribution(section, name)}" if name else ""
    if name and name not in known:
        close = difflib.get_close_matches(name, sorted({*known, *installed}), 1)
        hint = f'did you mean "{close[0]}"?' if close else f"is a plugin missing? {hint}"
    return Problem((section, "type"), message, hint)


def _choice(words: Sequence[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    if len(quoted) == 2:
        return f"either {quoted[0]} or {quoted[1]}"
    return " or ".join(part for part in (", ".join(quoted[:-1]), quoted[-1]) if part) if quoted else "empty"


class _Wording:
    def __init__(self, schema: Schema, installed: Mapping[str, Sequence[str]]) -> None:
        self.schema = schema
        self.installed = installed

    def problems(self, error: ValidationError) -> Iterator[Problem]:
        key: KeyPath = tuple(error.absolute_path)
        keyword = error.validator
        if keyword in ("anyOf", "oneOf") and error.context:
            yield from self._alternatives(error)
        elif keyword == "additionalProperties":
            yield from self._unknown_keys(error, key)
        elif keyword == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield self._missing(key, name)
        elif keyword == "enum":
            yield self._not_listed(error, key)
        else:
            yield Problem(key, *self._plain(error))

    def _alternatives(self, error: ValidationError) -> Iterator[Problem]:
        """Of several allowed forms, the one that the author seems to have meant: that of the same type."""
        branches: dict[object, list[ValidationError]] = {}
        for inner in error.context or ():
            branches.setdefault(inner.schema_path[0], []).append(inner)
        meant = [inner for inner in branches.values() if not any(_wrong_type(one, error) for one in inner)]
        if meant:
            for inner in min(meant, key=len):
                yield from self.problems(inner)
            return
        types = self.schema.types(error.schema)
        yield Problem(tuple(error.absolute_path), f"must be {_nouns(types)}, not {_noun(error.instance)}")

    def _unknown_keys(self, error: ValidationError, key: KeyPath) -> Iterator[Problem]:
        known = error.schema.get("properties", {})
        if error.validator_value is not False:  # a schema for further keys, which one of them does not satisfy
            yield Problem(key, *self._plain(error))
            return
        for name in sorted(error.instance.keys() - known.keys()):
            yield Problem((*key, name), "unknown key", self._meant(name, key, known))

    def _meant(self, name: str, key: KeyPath, known: dict[str, Any]) -> str:
        name = name.lower().replace("_", "-")
        close = difflib.get_close_matches(name, known, 1)
        elsewhere = [] if close else self._elsewhere(name, key)
        if close or elsewhere:
            return f'did you mean "{(close or elsewhere)[0]}"?'
        missing = "is a plugin missing? " if not key or key[0] in TYPED_SECTIONS else ""
        return f"{missing}known here: {', '.join(known)}"

    def _elsewhere(self, name: str, key: KeyPath) -> list[str]:
        """Full names of keys of other sections that look like the name."""
        sections = self.schema.properties(self.schema.root)
        keys = {child: section for section, sub in sections.items() for child in self.schema.properties(sub)}
        close = difflib.get_close_matches(name, keys, 1, cutoff=0.8)
        return [f"{keys[child]}.{child}" for child in close if (keys[child],) != key]

    def _missing(self, key: KeyPath, name: str) -> Problem:
        if (*key, name) in (("lease",), ("lease", "type")):
            return unknown_type("lease", "", self.installed["lease"])
        return Problem((*key, name), "is required")

    def _not_listed(self, error: ValidationError, key: KeyPath) -> Problem:
        if len(key) == 2 and key[1] == "type" and key[0] in TYPED_SECTIONS:
            return unknown_type(key[0], str(error.instance), self.installed[key[0]])
        words = [str(word) for word in error.validator_value]
        got = "" if self._secret(error) else f", got: '{error.instance}'"
        close = difflib.get_close_matches(str(error.instance), words, 1)
        return Problem(key, f"must be {_choice(words)}{got}", f'did you mean "{close[0]}"?' if close else "")

    def _plain(self, error: ValidationError) -> tuple[str, str]:
        schema = error.schema if isinstance(error.schema, dict) else {}
        hint = str(schema.get("errorMessage", ""))
        shown = "" if self._secret(error) else f' "{error.instance}"'
        if schema.get("format") == "go-duration":
            if isinstance(error.instance, str):
                return f"invalid duration{shown}", hint or FIX
            return f"must be a duration, not {_noun(error.instance)}", hint or FIX
        if error.validator == "type":
            types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            quotes = "remove the quotes" if error.instance in ("true", "false") and "boolean" in types else ""
            return f"must be {_nouns(types)}, not {_noun(error.instance)}", hint or quotes
        if hint or self._secret(error):
            return f"invalid value{shown}", hint
        return error.message, ""

    def _secret(self, error: ValidationError) -> bool:
        return isinstance(error.schema, dict) and bool(error.schema.get("writeOnly"))


def _wrong_type(inner: ValidationError, outer: ValidationError) -> bool:
    return inner.validator == "type" and list(inner.absolute_path) == list(outer.absolute_path)


def _nouns(types: Any) -> str:
    return " or ".join(_NOUNS.get(name, name) for name in sorted(types, key=list(_NOUNS).index))


def _noun(value: Json) -> str:
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    kinds = ((str, "text"), ((int, float), "a number"), (list, "a list"), (dict, "a section of keys"))
    return next((noun for kind, noun in kinds if isinstance(value, kind)), type(value).__name__)
