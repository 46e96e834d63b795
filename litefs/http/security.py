"""Who may use the API: an optional bearer token, and TLS.

Without either, whoever reaches the port can read and replace every database; LiteFS has it so, and relies on a private
network.
"""

from __future__ import annotations

import hmac
import logging
import ssl

from litefs.errors import ConfigError

log = logging.getLogger("litefs.http")

OPEN = frozenset({"/info", "/livez", "/readyz", "/metrics"})
"""Paths that need no token: load balancers and monitoring ask them, and they tell nothing of what databases hold."""


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


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    """TLS for the API from PEM files.

    Raises:
        ConfigError: a file is missing or not what it should be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    try:
        context.load_cert_chain(certificate, key or None)
    except (OSError, ssl.SSLError) as error:
        files = f"http.tls-cert {certificate} and http.tls-key {key}"
        hint = "both must be PEM, and belong together"
        raise ConfigError(f"cannot use {files}: {error.strerror or error}", hint) from error
    return context
