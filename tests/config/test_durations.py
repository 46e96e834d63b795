"""Go's duration strings."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.builtin import kernel_schema
from litefs.config import parse_duration
from litefs.errors import ConfigError

GOOD = {
    "0": 0.0,
    "0s": 0.0,
    "100ms": 0.1,
    "1s": 1.0,
    "1.5s": 1.5,
    ".5s": 0.5,
    "1.s": 1.0,
    "1h2m3.5s": 3723.5,
    "10m": 600.0,
    "1us": 1e-6,
    "1µs": 1e-6,
    "1μs": 1e-6,
    "250ns": 2.5e-7,
    "+1s": 1.0,
    "1m1h": 3660.0,
}
BAD = ["", "10", "1", "s", "soon", "1 s", "1S", "1d", "1s ", "1e3s", ".s", "\u0661s", "--1s", "9999999999h", "1s\n"]


@pytest.mark.parametrize(("text", "seconds"), GOOD.items())
def test_good(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_negative() -> None:
    assert parse_duration("-1m") == -60.0


@pytest.mark.parametrize("text", BAD)
def test_bad(text: str) -> None:
    with pytest.raises(ConfigError, match="invalid duration"):
        parse_duration(text)


@given(st.one_of(st.text(max_size=8), st.from_regex(r"[-+]?[0-9.]{0,3}(ns|us|ms|s|m|h)?[0-9]?(m|h)?", fullmatch=True)))
def test_the_schema_knows_the_same_durations(text: str) -> None:
    pattern = kernel_schema()["$defs"]["signed-duration"]["pattern"]
    try:
        parse_duration(text)
        valid = True
    except ConfigError:
        valid = False
    assert bool(re.search(pattern.replace("$", r"\Z"), text)) == valid
