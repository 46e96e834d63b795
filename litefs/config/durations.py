"""Go's duration strings: ``300ms``, ``1h2m3.5s``."""

from __future__ import annotations

import re

from litefs.errors import ConfigError

_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_DURATION = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)", re.ASCII)
_LONGEST = 2**63 / 1e9  # what Go keeps in 64 bits of nanoseconds: 292 years

FIX = "write a number with a unit (ns, us, ms, s, m, h), like 10s or 1h30m"


def parse_duration(text: str) -> float:
    """Seconds of a Go duration string.  Raises ConfigError; a number without a unit is one, except 0."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ConfigError(f'invalid duration "{text}"', FIX)
    seconds = sum(round(float(number) * 1e9 * _UNIT_SECONDS[unit]) for number, unit in _PART.findall(match[2])) / 1e9
    if seconds > _LONGEST:
        raise ConfigError(f'invalid duration "{text}"', "at most 292 years")
    return -seconds if match[1] == "-" else seconds
