"""Where the server is and how to identify to it, from litefs.yml and LiteFS's environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from litefs.errors import ConfigError

if TYPE_CHECKING:
    from litefs.config import BackupConfig

RETIRED = "litefs.fly.io"
"""LiteFS's default server, shut down on 2024-10-15."""


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """A server of LiteFS Cloud's protocol.

    Args:
        url: scheme, host and port; LiteFS ignores the rest of a URL, and so do we.
        token: sent as it is in ``Authorization``; may be empty.
        cluster: name of the cluster there, where the token does not say it.
    """

    url: str
    token: str = field(repr=False)
    cluster: str

    def clean(self, text: str) -> str:
        """A text that may go into the log: in one line, without the token."""
        for secret in filter(None, (self.token, self.token.partition(" ")[2])):  # whole first, then without its scheme
            text = text.replace(secret, "********")
        return " ".join(text.split())


def cloud_settings(config: BackupConfig, environment: Mapping[str, str]) -> CloudSettings:
    """The settings that apply.  Raises ConfigError when no server is named, or its URL is no URL."""
    from_environment = environment.get("LITEFS_CLOUD_TOKEN", "").strip()
    token = config.auth_token.strip() or from_environment
    endpoint = environment.get("LITEFS_CLOUD_ENDPOINT", "").strip() if from_environment else ""
    _check_token(token)
    return CloudSettings(_base(endpoint or config.url), token, config.cluster)


def names_a_server(url: str, environment: Mapping[str, str]) -> bool:
    """Whether the configuration or the environment names a server that may exist."""
    named = environment.get("LITEFS_CLOUD_ENDPOINT", "").strip() or url
    return bool(named) and urlsplit(named).hostname != RETIRED


def _check_token(token: str) -> None:
    if not token.isascii() or not token.isprintable():
        raise ConfigError(
            "the token of the backup service holds characters that no header can carry",
            "see backup.auth-token, backup.auth-token-file and LITEFS_CLOUD_TOKEN",
        )


def _base(url: str) -> str:
    hint = "an endpoint looks like https://HOST:PORT; it is backup.url or LITEFS_CLOUD_ENDPOINT"
    if not url:
        raise ConfigError("no server to back up to: LiteFS Cloud was shut down in 2024", hint)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(f"invalid litefs cloud URL: {url!r}", hint) from None
    if parts.scheme not in ("http", "https"):
        raise ConfigError(f"invalid litefs cloud URL scheme: {parts.scheme!r}", hint)
    if not parts.hostname:
        raise ConfigError("litefs cloud URL host required", hint)
    if parts.hostname == RETIRED:
        raise ConfigError(f"the server {RETIRED} was shut down in 2024", hint)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}"
