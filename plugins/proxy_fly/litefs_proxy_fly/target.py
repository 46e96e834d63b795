"""Where the application listens."""

from __future__ import annotations

from litefs.config.addresses import split_address
from litefs.errors import ConfigError


def parse_target(target: str) -> tuple[str, int]:
    """Host and port of ``proxy.target``: ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT``, or ``HOST`` for port 80.

    Raises ConfigError.
    """
    text = target if target.rpartition(":")[2].isdigit() and not target.endswith("]") else f"{target}:80"
    try:
        host, port = split_address(text)
        if "[" in host or not port:
            raise ConfigError("")
    except ConfigError as error:
        hint = "write HOST:PORT, like localhost:8081, without http:// and without a path"
        raise ConfigError(f'proxy.target: invalid address "{target}"', hint) from error
    return host or "localhost", port
