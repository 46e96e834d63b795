"""The HTTP API of a node, as commands on the same machine use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from litefs.cli.access import DEFAULT_URL, Access
from litefs.errors import ConfigError, LitefsError
from litefs.http.tls import client_context

REQUEST_LIMIT = 30.0  # seconds for an answer
UNAUTHORIZED = "the node asks for a token: set LITEFS_AUTH_TOKEN, or use -token-file or -config"


class APIError(LitefsError):
    """The node could not be reached, or refused."""


class NodeAPI:
    """One node's API, blocking. Use as a context manager.

    Args:
        node: how to reach it; just its URL for what the environment says of the rest.

    Raises ConfigError for a URL that is none or files that cannot be used, and from its methods APIError.
    """

    def __init__(self, node: Access | str) -> None:
        node = Access.find(node) if isinstance(node, str) else node
        try:
            parsed = httpx.URL(node.url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"invalid URL {node.url!r}: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"invalid URL {node.url!r}", f"write it like {DEFAULT_URL}")
        self.url = str(parsed.copy_with(raw_path=b"/", userinfo=b"")).rstrip("/")
        # Reading the certificates takes a quarter of a second, so only where they are needed. Proxies of the
        # environment are for the web, not for the node next door.
        verify = client_context(node.ca, node.cert, node.key) if parsed.scheme == "https" else False
        headers = {"Authorization": f"Bearer {node.token}"} if node.token else {}
        self._client = httpx.Client(
            base_url=self.url, headers=headers, trust_env=False, timeout=REQUEST_LIMIT, verify=verify
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

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with transfer_errors(self.url):
            response = self._client.request(method, path, **options)
        check(response)
        return response


def check(response: httpx.Response) -> None:
    """Raises APIError for an answer other than success, in LiteFS's words."""
    if response.status_code == 200:
        return
    response.read()
    text = " ".join(response.text[:4096].split())
    hint = UNAUTHORIZED if response.status_code == 401 else text
    raise APIError(f"invalid response: code={response.status_code}", hint)


@contextmanager
def transfer_errors(url: str) -> Iterator[None]:
    """Turns what httpx raises into APIError."""
    try:
        yield
    except httpx.ConnectError as error:
        raise APIError(f"cannot reach {url}: {error}", _connect_hint(url, error)) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise APIError(f"the exchange with {url} broke off: {str(error) or type(error).__name__}") from None


def _connect_hint(url: str, error: httpx.ConnectError) -> str:
    if "certificate" in str(error).lower():
        return "name the authority that signed the node's certificate with -ca"
    return "is litefs running there? Name it with -url"
