"""Environment variables in the raw text of litefs.yml, comments included.

    $VAR  ${VAR}            the variable's value; empty where it is unset
    ${A == 'x'}  ${A != "x"}  ``true`` or ``false``
    ${A == B}  ${A != B}    both sides are variables

As in LiteFS there are no defaults (``${A:-d}`` is empty) and there is no escape: ``$$`` is empty and ``\\$A`` expands.
A dollar sign that no name follows stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# An unclosed or empty ${} disappears; so do shell specials like $1 and $$, since no environment has such names.
_REFERENCE = re.compile(r"\$(?:\{([^}]*)\}|(\w+)|\{|[*#$@!?-])", re.ASCII)
_DIGIT_FIRST = re.compile(r"\d", re.ASCII)
_COMPARISON = re.compile(r"""(\w+)\s*(==|!=)\s*(?:'(.*)'|"(.*)"|(\w+))""", re.ASCII | re.DOTALL)


def expand(text: str, environment: Mapping[str, str]) -> str:
    """The text with every reference replaced.  Never fails: what cannot be understood is empty."""

    def replace(match: re.Match[str]) -> str:
        braced, name = match[1], match[2]
        if braced is not None:
            return _evaluate(braced.strip(), environment)
        if name is None:
            return ""
        if _DIGIT_FIRST.match(name):  # $12 is $1 and then a 2
            return name[1:]
        return environment.get(name, "")

    return _REFERENCE.sub(replace, text)


def _evaluate(expression: str, environment: Mapping[str, str]) -> str:
    comparison = _COMPARISON.fullmatch(expression)
    if comparison is None:
        return environment.get(expression, "")
    left, operator, single, double, variable = comparison.groups()
    right = environment.get(variable, "") if variable is not None else single if single is not None else double
    equal = environment.get(left, "") == right
    return "true" if equal == (operator == "==") else "false"
