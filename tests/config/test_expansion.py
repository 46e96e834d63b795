"""Environment variables in litefs.yml, as protocol and os.Expand of Go have them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litefs.config.expansion import expand

ENVIRONMENT = {"A": "x", "B": "x", "C": "y", "EMPTY": "", "LONG_1": "z", "SELF": "$A"}


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$A", "x"),
        ("${A}", "x"),
        ("${ A }", "x"),
        ("a$A.b", "ax.b"),
        ("$LONG_1-", "z-"),
        ("$A$C", "xy"),
        ("$UNSET|${UNSET}", "|"),
        ("# comment $A", "# comment x"),
        ("$SELF", "$A"),
        ("${A == 'x'}", "true"),
        ('${A == "x"}', "true"),
        ("${A=='y'}", "false"),
        ("${A != 'x'}", "false"),
        ('${A != "y"}', "true"),
        ("${A == B}", "true"),
        ("${A == C}", "false"),
        ("${A != C}", "true"),
        ("${UNSET == EMPTY}", "true"),
        ("${UNSET == ''}", "true"),
        ("${A == 'x y == z'}", "false"),
        ("${A:-default}", ""),
        ("$$", ""),
        ("$$A", "A"),
        ("\\$A", "\\x"),
        ("$1A $12", "A 2"),
        ("$? $* $@ $# $! $-", "     "),
        ("5$", "5$"),
        ("a $ b", "a $ b"),
        ("$.", "$."),
        ("${}", ""),
        ("${A", "A"),
        ("é$Aé", "éxé"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, ENVIRONMENT) == expanded


@given(st.text(alphabet="$${}AB=!'\" -1\n", max_size=40))
def test_never_fails_and_leaves_no_reference(text: str) -> None:
    once = expand(text, {"A": "x", "B": ""})
    assert "${" not in once or "$" in text


@given(st.text().filter(lambda text: "$" not in text))
def test_text_without_dollar_is_kept(text: str) -> None:
    assert expand(text, ENVIRONMENT) == text
