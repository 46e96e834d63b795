"""JSON that others wrote: whatever it is, it is understood or refused with ValueError."""

from __future__ import annotations

import json
import math
from typing import Any


def loads(data: bytes | str) -> Any:
    """What a text says. Numbers that are none (NaN) or have no end are refused, as JSON itself does not know them.

    Raises:
        ValueError: it is no JSON, or nested deeper than anything sensible.
    """
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
