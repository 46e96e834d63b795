"""HOST:PORT, as Go's net package writes it."""

from __future__ import annotations

from litefs.errors import ConfigError


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, ``:PORT`` or ``[IPv6]:PORT``; the host may be empty.  Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or "/" in host:
        raise _invalid(address)
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise _invalid(address)
    return host, int(port)


def _invalid(address: str) -> ConfigError:
    return ConfigError(f'invalid address "{address}"', "write HOST:PORT, like 127.0.0.1:20202 or :20202")
