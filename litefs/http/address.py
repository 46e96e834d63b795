"""Where the API listens: LiteFS's spelling of addresses, and the bound socket.

Needed before the mount is made (a taken port is reported before anything else happens), so it imports next to nothing.
"""

from __future__ import annotations

import errno
import os
import socket

from litefs.errors import ConfigError, LitefsError

BACKLOG = 1024  # connections the kernel completes before the node accepts them


class ListenError(LitefsError):
    """The address cannot be listened on."""


def split(address: str) -> tuple[str, str]:
    """Host (empty for all interfaces) and port of ``:20202``, ``host:port`` or ``[::1]:port``.

    Raises:
        ConfigError: it is none of these.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'too many colons in address "{address}"', "write an IPv6 address as [::1]:20202")
    if not colon or not port:
        raise ConfigError(f'missing port in address "{address}"', "write :20202 or host:20202")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f'invalid port in address "{address}"', "use a number up to 65535")
    return host, port


def bind(address: str) -> socket.socket:
    """A listening TCP socket for the address; without a host, one for IPv4 and IPv6 alike.

    Raises:
        ConfigError: the address is malformed or its host unknown.
        ListenError: the port is taken, or may not be used.
    """
    host, port = split(address)
    try:
        if not host:
            return _bind_all(int(port))
        family, _, _, _, target = _resolve(address, host, port)
        return socket.create_server(target[:2], family=family, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {_reason(error)}", _hint(error)) from error


def _bind_all(port: int) -> socket.socket:
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("", port), backlog=BACKLOG)
    return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)


def _resolve(address: str, host: str, port: str) -> tuple[int, int, int, str, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ConfigError(f'cannot resolve address "{address}": {error.strerror}') from error
    # LiteFS listens on the IPv4 address of a name that has both.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return found[0]  # type: ignore[return-value]


def _reason(error: OSError) -> str:
    # create_server() adds the address to the text of the error; ours names it already.
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "stop the process that uses it, or set http.addr"
    return ""
