"""Who may use the API: an optional bearer token, and no web pages.

Without a token, and without `litefs.http.tls`, whoever reaches the port can read and replace every database; LiteFS has
it so, and relies on a private network.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from collections.abc import Collection
from urllib.parse import urlsplit

log = logging.getLogger("litefs.http")

SAFE = frozenset({"GET", "HEAD"})


def authorized(token: str, authorization: str) -> bool:
    """Whether an Authorization header carries the token; always, where there is none."""
    if not token:
        return True
    scheme, _, given = authorization.partition(" ")
    return same_token(token, given.strip()) and scheme.lower() == "bearer"


def same_token(token: str, given: str) -> bool:
    """Whether somebody knows the token, found in constant time: else it would tell a guesser how far he is."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode("utf-8", "replace"))


def warn_if_open(token: str, loopback: bool, address: str) -> None:
    """One clear line in the log where others can reach an API that asks nobody who he is."""
    if not token and not loopback:
        log.warning(
            "http: anyone who reaches %s can read and replace every database; set http.auth-token, or listen on a "
            "private address",
            address,
        )


def from_a_web_page(method: str, origin: str | None) -> bool:
    """Whether a browser sends this on behalf of some web page, which could change a node on its user's machine.

    Browsers say where a request comes from whenever it may change something; nothing else sends an Origin.
    """
    return origin is not None and method not in SAFE


def from_own_page(origin: str, host: str, site: str, *, secure: bool) -> bool:
    """Whether a request with an Origin is from the node's own status page.

    Args:
        origin, host, site: the headers Origin, Host and Sec-Fetch-Site.
        secure: whether it came over TLS. Where it did not, there may still be something before the node that has TLS.
    """
    schemes = ("https",) if secure else ("http", "https")
    return bool(host) and origin in [f"{scheme}://{host}" for scheme in schemes] and site in ("", "same-origin")


def is_own_name(host: str, names: Collection[str]) -> bool:
    """Whether a Host header names this node, by address or by one of its names.

    A name of somebody else's, which he lets lead here, would make his page one of ours (DNS rebinding). With a token
    that does not matter: his page would have to know it.
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name in {each.lower() for each in names} or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
