"""Tokens: where they may come from, and what the one that nodes of a cluster share may look like."""

from __future__ import annotations

import re
from pathlib import Path

from litefs.errors import ConfigError

TOKEN_VARIABLE = "LITEFS_AUTH_TOKEN"
"""Environment variable with the token, for nodes and for commands."""

_TOKEN = re.compile(r"[!-~]*")


def check_token(token: str, where: str) -> str:
    """The token, if it can stand in a header.  Raises ConfigError, which does not show it."""
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"{where}: a token must be printable ASCII without spaces", "make one: openssl rand -hex 32")
    return token


def read_token(path: str, where: str) -> str:
    """The token in a file; white space around it does not count.  Raises ConfigError, which does not show it."""
    try:
        token = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigError(
            f"{where}: cannot read {path}: {reason}", "it must be a file with the token, readable for litefs"
        ) from None
    if not token:
        raise ConfigError(f"{where}: {path} is empty", "put a token there: openssl rand -hex 32")
    return token
