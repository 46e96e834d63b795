"""Who may use the API: an optional bearer token, and no web pages.

Without a token, and without `litefs.http.tls`, whoever reaches the port can read and replace every database; LiteFS has
it so, and relies on a private network.
"""

from __future__ import annotations

import hmac
import logging

log = logging.getLogger("litefs.http")

SAFE = frozenset({"GET", "HEAD"})


def authorized(token: str, authorization: str) -> bool:
    """Whether an Authorization header carries the token; always, where there is none."""
    if not token:
        return True
    scheme, _, given = authorization.partition(" ")
    # In constant time: the time until the first difference would tell a guesser how far he is.
    same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode("utf-8", "replace"))
    return same and scheme.lower() == "bearer"


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
