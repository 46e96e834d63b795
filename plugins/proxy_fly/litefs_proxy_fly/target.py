"""Where the application listens."""

from __future__ import annotations

from typing import NamedTuple

from litefs.config.addresses import split_address
from litefs.errors import ConfigError

UNIX = "unix:"
LONGEST_PATH = 107  # bytes of a socket's path: what the kernel has room for


class TCP(NamedTuple):
    """A port of a host, whose name is looked up for every connection."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_header(self) -> bytes:
        """What the application is told as its host when the client names none."""
        return self.name.encode()


class Unix(NamedTuple):
    """A socket in the file system."""

    path: str

    @property
    def name(self) -> str:
        """See `TCP`."""
        return f"{UNIX}{self.path}"

    @property
    def host_header(self) -> bytes:
        """See `TCP`."""
        return b"localhost"


Target = TCP | Unix


def parse_target(target: str) -> Target:
    """What ``proxy.target`` means: ``HOST:PORT``, ``[IPv6]:PORT``, ``:PORT``, ``HOST`` for port 80, ``unix:/PATH``.

    Raises ConfigError.
    """
    if target.startswith(UNIX):
        return _unix(target)
    text = target if target.rpartition(":")[2].isdigit() and not target.endswith("]") else f"{target}:80"
    try:
        host, port = split_address(text)
        if "[" in host or not port:
            raise ConfigError("")
    except ConfigError as error:
        hint = "write HOST:PORT, like localhost:8081, without http:// and without a path; or unix:/PATH of a socket"
        raise ConfigError(f'proxy.target: invalid address "{target}"', hint) from error
    return TCP(host or "localhost", port)


def _unix(target: str) -> Unix:
    path = target.removeprefix(UNIX)
    if not path.startswith("/"):
        raise ConfigError(f'proxy.target: "{target}" is no absolute path', "write unix:/PATH, like unix:/run/app.sock")
    if len(path.encode()) > LONGEST_PATH or "\0" in path:
        hint = f"the path of a socket has at most {LONGEST_PATH} bytes"
        raise ConfigError(f'proxy.target: "{target}" cannot be a socket', hint)
    return Unix(path)
