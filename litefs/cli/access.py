"""How a command reaches a node: its URL, the token, TLS; from flags, the environment or a litefs.yml.

@go_command("promote")
@node_flags
def command(access: Access) -> None: ...
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from litefs.cli.flags import flag
from litefs.config.secrets import TOKEN_VARIABLE, check_token, read_token

DEFAULT_URL = "http://localhost:20202"
CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE = "LITEFS_TLS_CA", "LITEFS_TLS_CERT", "LITEFS_TLS_KEY"


@dataclass(frozen=True, slots=True)
class Access:
    """What is needed to ask a node.

    Args:
        url: of the node; only scheme, host and port count.
        token: bearer token, or empty.
        ca: PEM file with the authorities to verify it against; empty for the system's.
        cert, key: PEM files to show to a node that asks for a certificate.
    """

    url: str = DEFAULT_URL
    token: str = field(default="", repr=False)
    ca: str = ""
    cert: str = ""
    key: str = ""

    @classmethod
    def find(
        cls,
        url: str = "",
        *,
        config: str = "",
        token_file: str = "",
        ca: str = "",
        cert: str = "",
        key: str = "",
        environment: Mapping[str, str] = os.environ,
    ) -> Access:
        """Flags before environment before litefs.yml, which is read only if it is named.  Raises ConfigError."""
        known = _configured(config) if config else cls()
        token = check_token(environment.get(TOKEN_VARIABLE, ""), TOKEN_VARIABLE)
        if token_file:
            token = check_token(read_token(token_file, "-token-file"), "-token-file")
        cert = cert or environment.get(CERT_VARIABLE, "")
        return cls(
            url=url or known.url,
            token=token or known.token,
            ca=ca or environment.get(CA_VARIABLE, "") or known.ca,
            cert=cert or known.cert,
            key=(key or environment.get(KEY_VARIABLE, "")) if cert else known.key,
        )


def _configured(path: str) -> Access:
    """The node that a litefs.yml describes, as seen from its own machine."""
    from litefs.config import load  # late: takes longer than most commands

    http = load(path).http
    # What listens everywhere is found at localhost; a certificate is for the name it is given.
    host = http.host if http.host not in ("", "0.0.0.0", "::") else "localhost"
    shown = f"[{host}]" if ":" in host else host
    url = f"{'https' if http.secure else 'http'}://{shown}:{http.port}"
    return Access(url, http.auth_token, http.tls_ca, http.tls_cert, http.tls_key)


def node_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that say which node is meant and how to reach it; the function gets an `Access` called ``access``."""

    @wraps(function)
    def wrapper(*args: Any, url: str, config: str, token_file: str, ca: str, cert: str, key: str, **rest: Any) -> Any:
        access = Access.find(url, config=config, token_file=token_file, ca=ca, cert=cert, key=key)
        return function(*args, access=access, **rest)

    flags = [
        flag("url", default="", metavar="URL", help=f"The node's HTTP API; default {DEFAULT_URL}."),
        flag("config", default="", metavar="PATH", help="Take URL, token and certificates from this litefs.yml."),
        flag("token-file", default="", metavar="PATH", help=f"File with the token; default: {TOKEN_VARIABLE}."),
        flag("ca", default="", metavar="PATH", help=f"PEM file to verify the node against; default: {CA_VARIABLE}."),
        flag("cert", default="", metavar="PATH", help=f"Certificate to show to the node; default: {CERT_VARIABLE}."),
        flag("key", default="", metavar="PATH", help=f"Its private key; default: {KEY_VARIABLE}."),
    ]
    decorated: Callable[..., Any] = wrapper
    for add in reversed(flags):
        decorated = add(decorated)
    return decorated
