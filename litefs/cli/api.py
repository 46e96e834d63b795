"""The HTTP API of a node, as commands on the same machine use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx

from litefs import jsontext
from litefs.cli.access import DEFAULT_URL, Access
from litefs.errors import ConfigError, LitefsError
from litefs.http.tls import client_context

REQUEST_LIMIT = 30.0  # seconds for an answer
DEMOTE_LIMIT = 60.0  # seconds for a primary to hand over
UNAUTHORIZED = "the node asks for a token: set LITEFS_AUTH_TOKEN, or use -token-file or -config"


class APIError(LitefsError):
    """The node could not be reached, or refused."""


class TransferError(APIError):
    """No connection, or one that broke off."""


class NotFound(APIError):
    """The node has no such thing: a node of LiteFS lacks some."""


class NodeAPI:
    """One node's API, blocking. Use as a context manager.

    Args:
        node: how to reach it; just its URL for what the environment says of the rest.
        limit: seconds for an answer.

    Raises ConfigError for a URL that is none or files that cannot be used, and from its methods APIError.
    """

    def __init__(self, node: Access | str, *, limit: float = REQUEST_LIMIT) -> None:
        node = Access.find(node) if isinstance(node, str) else node
        try:
            parsed = httpx.URL(node.url)
        except (httpx.InvalidURL, UnicodeError) as error:
            raise ConfigError(f"invalid URL {node.url!r}: {error}") from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"invalid URL {node.url!r}", f"write it like {DEFAULT_URL}")
        self.url = str(parsed.copy_with(raw_path=b"/", userinfo=b"")).rstrip("/")
        # Reading the certificates takes a quarter of a second, so only where they are needed. Proxies of the
        # environment are for the web, not for the node next door.
        verify = client_context(node.ca, node.cert, node.key) if parsed.scheme == "https" else False
        headers = {"Authorization": f"Bearer {node.token}"} if node.token else {}
        self._client = httpx.Client(base_url=self.url, headers=headers, trust_env=False, timeout=limit, verify=verify)

    def __enter__(self) -> NodeAPI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.close()

    def info(self) -> dict[str, Any]:
        """What ``GET /info`` says: ``isPrimary``, ``candidate`` and more."""
        return _json(self._request("GET", "/info"))

    def status(self) -> dict[str, Any]:
        """What ``GET /status`` says: the node, its databases, other nodes. Raises NotFound for a node of LiteFS."""
        return _json(self._request("GET", "/status"))

    def promote(self) -> None:
        """Have the node ask the primary to hand over to it; returns when that has agreed."""
        self._request("POST", "/promote")

    def demote(self, target: str = "") -> None:
        """Have the node, which is primary, hand over; returns when it is no longer primary.

        Args:
            target: id of the node that shall take over; empty for the most advanced candidate.
        """
        self._request("POST", "/demote", params={"target": target} if target else {}, timeout=DEMOTE_LIMIT)

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
    kind = NotFound if response.status_code == 404 else APIError
    raise kind(f"invalid response: code={response.status_code}", hint)


def _json(response: httpx.Response) -> dict[str, Any]:
    """The object in an answer; names of databases in it need not be UTF-8."""
    try:
        found = jsontext.loads(response.content.decode("utf-8", "surrogateescape"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise APIError(f"{response.url} does not answer with a JSON object", "is it a node of litefs?")
    return found


@contextmanager
def transfer_errors(url: str) -> Iterator[None]:
    """Turns what httpx raises into TransferError."""
    try:
        yield
    except httpx.ConnectError as error:
        raise TransferError(f"cannot reach {url}: {error}", _connect_hint(url, error)) from None
    except (httpx.HTTPError, httpx.StreamError) as error:
        raise TransferError(f"the exchange with {url} broke off: {str(error) or type(error).__name__}") from None


def _connect_hint(url: str, error: httpx.ConnectError) -> str:
    if "certificate" in str(error).lower():
        return "name the authority that signed the node's certificate with -ca"
    return "is litefs running there? Name it with -url"
