"""Who a request is from, told to the application: ``X-Forwarded-*`` and ``Forwarded`` (RFC 7239).

What a client says about itself counts for nothing, so it is removed, however the name is spelt: many servers take
``X_Forwarded_For`` for the same thing. Only what trusted proxies in front of this one say is kept and added to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from litefs.errors import ConfigError

if TYPE_CHECKING:
    from litefs_proxy_fly.heads import Request

_X = rb"x[-_]forwarded[-_][^:\r]*|x[-_]real[-_]ip"
_ALL = re.compile(rb"\r\n(?i:" + _X + rb"|forwarded):[^\r]*")
_ALL_X = re.compile(rb"\r\n(?i:" + _X + rb"):[^\r]*")
_STANDARD = re.compile(rb"\r\n(?i:forwarded):([^\r]*)")
_FOR = re.compile(rb"\r\n(?i:x-forwarded-for):([^\r]*)")
_UNDERSCORED = re.compile(rb"\r\n(?i:x_forwarded[-_][^:\r]*|x-forwarded_[^:\r]*|x_real[-_]ip|x-real_ip):[^\r]*")
_PROTO = re.compile(rb"\r\n(?i:x-forwarded-proto):")
_HOST = re.compile(rb"\r\n(?i:x-forwarded-host):")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Origin(NamedTuple):
    """The other end of a connection.

    Attributes:
        address: of it.
        trusted: whether it is a proxy whose word counts.
    """

    address: str
    trusted: bool


class Forwarded:
    """Writes the headers.

    Args:
        x: whether ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are.
        standard: whether ``Forwarded`` is.
        trusted: networks of proxies in front of this one.
    """

    def __init__(self, *, x: bool, standard: bool, trusted: tuple[IPv4Network | IPv6Network, ...] = ()) -> None:
        self._x = x
        self._standard = standard
        self._trusted = trusted

    def origin(self, host: str) -> Origin:
        """What to think of a connection from there."""
        address = plain_address(host)
        return Origin(str(address), any(address in network for network in self._trusted))

    def rewrite(self, request: Request, origin: Origin) -> None:
        """Have the request's head say where it is from."""
        head = request.head
        if not origin.trusted:
            kept = _ALL.sub(b"", head)
        else:
            kept = _UNDERSCORED.sub(b"", head)
            # A proxy that sets one kind lets its clients write the other.
            kept = _FOR.sub(b"", kept) if self._x else _ALL_X.sub(b"", kept)
            kept = _STANDARD.sub(b"", kept)
        lines = []
        if self._x:
            chain = self._chain(_FOR, head, origin)
            lines += [b"X-Forwarded-For: " + b", ".join([*chain, origin.address.encode()])]
            if not _PROTO.search(kept):
                lines.append(b"X-Forwarded-Proto: http")
            if request.host and not _HOST.search(kept):
                lines.append(b"X-Forwarded-Host: " + request.host)
        if self._standard:
            chain = self._chain(_STANDARD, head, origin)
            lines.append(b"Forwarded: " + b", ".join([*chain, _element(origin.address, request.host)]))
        request.head = b"%b%b\r\n\r\n" % (kept[:-2], b"\r\n".join(lines))

    def _chain(self, pattern: re.Pattern[bytes], head: bytes, origin: Origin) -> list[bytes]:
        """What proxies before have said."""
        return [value for found in pattern.findall(head) if (value := found.strip(b" \t"))] if origin.trusted else []


def plain_address(host: str) -> IPv4Address | IPv6Address:
    """An address without its scope, and IPv4 as such where IPv6 carries it."""
    address = ip_address(host.partition("%")[0])
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address


def _element(address: str, host: bytes | None) -> bytes:
    """One of ``Forwarded``."""
    node = f'"[{address}]"' if ":" in address else address
    element = b"for=%b" % node.encode()
    if host:
        text = host.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        element += b";host=%b" % (host if _TOKEN.fullmatch(host) else b'"%b"' % text)
    return element + b";proto=http"


def configured(keys: Mapping[str, Any]) -> Forwarded | None:
    """As the ``proxy`` section wants it; None for headers as clients send them.  Raises ConfigError."""
    wanted = keys["forwarded-headers"]
    networks = []
    for each in keys["trusted-proxies"]:
        try:
            networks.append(ip_network(each))
        except ValueError as error:
            hint = "write an address or a network without host bits, like 10.0.0.0/8 or fdaa::/16"
            raise ConfigError(f"proxy.trusted-proxies: {error}", hint) from None
    if wanted == "none":
        if networks:
            hint = "set proxy.forwarded-headers, or remove it"
            raise ConfigError("proxy.trusted-proxies has no meaning without proxy.forwarded-headers", hint)
        return None
    return Forwarded(x=wanted in ("x", "both"), standard=wanted in ("standard", "both"), trusted=tuple(networks))
