"""Where the API listens: a bound socket from LiteFS's spelling of an address.

Needed before the mount is made (a taken port is reported before anything else happens), so it imports next to nothing.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from litefs.config.addresses import split_address
from litefs.errors import ConfigError, LitefsError

BACKLOG = 1024  # connections the kernel completes before the node accepts them


class ListenError(LitefsError):
    """The address cannot be listened on."""


def bind(address: str, key: str = "http.addr") -> socket.socket:
    """A listening TCP socket for ``:20202``, ``host:port`` or ``[::1]:port``; without a host, for IPv4 and IPv6 alike.

    Args:
        address: where to listen.
        key: of litefs.yml, for the error.

    Raises:
        ConfigError: the address is malformed or its host unknown.
        ListenError: the port is taken, or may not be used.
    """
    host, port = split_address(address)
    try:
        if not host:
            return _bind_all(port)
        family, target = _resolve(address, host, port)
        return socket.create_server(target, family=family, backlog=BACKLOG)
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {_reason(error)}", _hint(error, key)) from error


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this machine can reach the socket."""
    host = str(listener.getsockname()[0]).partition("%")[0]
    return ipaddress.ip_address(host).is_loopback


def _bind_all(port: int) -> socket.socket:
    if not socket.has_dualstack_ipv6():
        return socket.create_server(("", port), backlog=BACKLOG)
    return socket.create_server(("", port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True)


def _resolve(address: str, host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise ConfigError(
            f'cannot resolve address "{address}": {error.strerror}', "name an address of this machine"
        ) from error
    # LiteFS listens on the IPv4 address of a name that has both.
    family, _, _, _, target = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, (str(target[0]), int(target[1]))


def _reason(error: OSError) -> str:
    # create_server() adds the address to the text of the error; ours names it already.
    return os.strerror(error.errno).lower() if error.errno else str(error)


def _hint(error: OSError, key: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"stop the process that uses it, or set {key}"
    return ""
