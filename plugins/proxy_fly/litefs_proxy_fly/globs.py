"""Patterns of paths, where ``*`` stands for any text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from litefs_proxy_fly.heads import BadRequest

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class Globs:
    """Any of some patterns; none matches nothing."""

    def __init__(self, patterns: Sequence[str]) -> None:
        each = (b".*".join(map(re.escape, pattern.encode().split(b"*"))) for pattern in patterns)
        self._regex = re.compile(b"|".join(b"(?:%b)" % one for one in each)) if patterns else None

    def match(self, path: bytes) -> bool:
        """Whether the whole path, with its escapes resolved, looks like one of them."""
        return self._regex is not None and self._regex.fullmatch(path) is not None


def path_of(target: bytes) -> bytes:
    """The path of a request target, its escapes resolved, without the query.  Raises BadRequest."""
    path = target.partition(b"?")[0]
    if b"%" not in path:
        return path
    if _BAD_ESCAPE.search(path):
        raise BadRequest("invalid URL escape")
    return unquote_to_bytes(path)
