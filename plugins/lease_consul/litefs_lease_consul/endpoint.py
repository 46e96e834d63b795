"""Where Consul is and how to be let in: from lease.consul.url, and from the variables that Consul's own tools read.

What litefs.yml says comes first. As with LiteFS, the user name in the URL means nothing, its password is the ACL token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from litefs.errors import ConfigError

DEFAULT_ADDRESS = "127.0.0.1:8500"
FIX = "write it like http://127.0.0.1:8500 or https://:TOKEN@consul.example.com/PREFIX"


@dataclass(frozen=True, slots=True)
class TLS:
    """How an https endpoint is checked, and how this node shows who it is.  Empty: the system's default.

    Args:
        ca_file: file with the certificates of authorities to trust.
        ca_path: folder with them.
        certificate: file with the client certificate.
        key: file with its key.
        server_name: the name that Consul's certificate must have, where it is not the host's.
        verify: whether Consul's certificate is checked at all.
    """

    ca_file: str = ""
    ca_path: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A Consul API.

    Args:
        scheme: ``http`` or ``https``.
        host: name or address, without brackets.
        port: its port.
        prefix: what all keys begin with.
        token: the ACL token, or empty.
        token_file: file that has it, where ``token`` is empty.
        basic_auth: ``USER:PASSWORD`` for a proxy before Consul, or empty.
        namespace: of Consul Enterprise, or empty.
        tls: for https.
    """

    scheme: str
    host: str
    port: int
    prefix: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    basic_auth: str = field(default="", repr=False)
    namespace: str = ""
    tls: TLS = TLS()

    @property
    def url(self) -> str:
        """Scheme, host and port: what may be shown."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def locate(url: str, environment: Mapping[str, str]) -> Endpoint:
    """The endpoint that a URL and the environment name.  Raises ConfigError, without a word of the secrets."""
    parts = _split(url, "lease.consul.url") if url else _split(_default(environment), "CONSUL_HTTP_ADDR")
    token = unquote(parts.password or "")
    token_file = "" if token else environment.get("CONSUL_HTTP_TOKEN_FILE", "")
    if not token and not token_file:
        token = environment.get("CONSUL_HTTP_TOKEN", "")
    if not is_token(token):
        raise ConfigError("the ACL token for Consul holds characters that no token has", "see lease.consul.url")
    return Endpoint(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or (443 if parts.scheme == "https" else 80),
        prefix=unquote(parts.path).strip("/"),
        token=token,
        token_file=token_file,
        basic_auth=environment.get("CONSUL_HTTP_AUTH", ""),
        namespace=environment.get("CONSUL_NAMESPACE", ""),
        tls=_tls(environment),
    )


def is_token(text: str) -> bool:
    """Whether a text can be sent as a token; errors about headers would show it."""
    return text.isascii() and text.isprintable() and " " not in text


def _split(url: str, name: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f"{name} is no address of Consul's API", FIX)
    return parts


def _default(environment: Mapping[str, str]) -> str:
    address = environment.get("CONSUL_HTTP_ADDR") or DEFAULT_ADDRESS
    if "://" in address:
        return address
    return f"{'https' if _flag(environment, 'CONSUL_HTTP_SSL', False) else 'http'}://{address}"


def _tls(environment: Mapping[str, str]) -> TLS:
    return TLS(
        ca_file=environment.get("CONSUL_CACERT", ""),
        ca_path=environment.get("CONSUL_CAPATH", ""),
        certificate=environment.get("CONSUL_CLIENT_CERT", ""),
        key=environment.get("CONSUL_CLIENT_KEY", ""),
        server_name=environment.get("CONSUL_TLS_SERVER_NAME", ""),
        verify=_flag(environment, "CONSUL_HTTP_SSL_VERIFY", True),
    )


def _flag(environment: Mapping[str, str], name: str, default: bool) -> bool:
    text = environment.get(name, "").lower()
    if text in ("1", "t", "true"):
        return True
    if text in ("0", "f", "false"):
        return False
    if text:
        raise ConfigError(f"environment variable {name} is neither true nor false", "set it to one of these")
    return default
