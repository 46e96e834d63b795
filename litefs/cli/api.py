"""The HTTP API of a node, as commands on the same machine use it."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

import httpx

from litefs.errors import ConfigError, LitefsError

DEFAULT_URL = "http://localhost:20202"
TOKEN = "LITEFS_TOKEN"


class APIError(LitefsError):
    """The node could not be reached, or refused."""


class NodeAPI:
    """One node's API, blocking. Use as a context manager.

    Args:
        url: of the node; only scheme, host and port count. A bearer token is taken from ``LITEFS_TOKEN``.

    Raises ConfigError for a URL that is none, and from its methods APIError.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"invalid URL {url!r}: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"invalid URL {url!r}", f"write it like {DEFAULT_URL}")
        self.url = str(parsed.copy_with(raw_path=b"/")).rstrip("/")
        token = os.environ.get(TOKEN)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Proxies of the environment are for the web, not for the node next door.
        self._client = httpx.Client(
            base_url=self.url,
            headers=headers,
            trust_env=False,
            timeout=30.0,
            verify=parsed.scheme == "https",  # reading the certificates takes a quarter of a second
        )

    def __enter__(self) -> NodeAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def info(self) -> dict[str, Any]:
        """What ``GET /info`` says: ``isPrimary``, ``candidate`` and more."""
        found: dict[str, Any] = self._request("GET", "/info").json()
        return found

    def promote(self) -> None:
        """Have the node ask the primary to hand over to it; returns when that has agreed."""
        self._request("POST", "/promote")

    def _request(self, method: str, path: str) -> httpx.Response:
        try:
            response = self._client.request(method, path)
        except httpx.HTTPError as error:
            raise APIError(f"cannot reach {self.url}: {error}", "is litefs running there? Name it with -url") from None
        if response.status_code != 200:
            raise APIError(f"invalid response: code={response.status_code}", response.text.strip())
        return response
