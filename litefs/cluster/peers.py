"""Small requests to other nodes: who they are, what they hold, a hand-over. Streams are `litefs.replication.wire`."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trio

from litefs.errors import StreamError
from litefs.replication import wire

ANSWER_LIMIT = 1 << 20
"""Bytes of an answer that are read unless the caller expects more."""


@dataclass(frozen=True, slots=True)
class PeerResponse:
    """A complete answer.

    Args:
        status: the HTTP status.
        headers: the header fields, names in lower case.
        body: all of it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as one line, for an error message; its status where there is none."""
        text = self.body[:4096].decode("utf-8", "replace").strip().replace("\n", " ")
        return text or f"invalid response: code={self.status}"


class Peers:
    """Asks other nodes. Has no connections of its own between two requests.

    Args:
        node_id: of this node, sent along.
        token: bearer token that nodes of the cluster ask for, or "".
        tls: how to verify the peer of an https URL; the system's default when None.
    """

    def __init__(self, node_id: int, *, token: str = "", tls: ssl.SSLContext | None = None) -> None:
        self._headers = {"Litefs-Id": f"{node_id:016X}"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._tls = tls

    async def request(
        self,
        method: str,
        url: str,
        path: str,
        body: wire.Body = b"",
        *,
        timeout: float,
        headers: Mapping[str, str] | None = None,
        limit: int = ANSWER_LIMIT,
    ) -> PeerResponse:
        """Send a request over HTTP/1.1, or over h2c where the peer insists, and read the whole answer.

        Args:
            method: of HTTP.
            url: of the peer; only scheme, host and port are used.
            path: with query.
            body: of the request, or a file that holds it.
            timeout: seconds for all of it.
            headers: sent besides the node's id and the token.
            limit: bytes that the answer may have.

        Raises:
            StreamError: no connection, no answer within the time, one that is too long, or not HTTP. Not for an
                HTTP status: see `PeerResponse.status`.
        """
        fields = {**self._headers, **(headers or {})}
        try:
            with trio.fail_after(timeout):
                first = wire.post_http1(url, path, body, fields, self._tls, method=method, patience=timeout)
                response = await _collect(url, first, limit)
                # Never over TLS: the token would go there in clear.
                if response.status == wire.OTHER_HTTP_VERSION and url.startswith("http:"):
                    second = wire.post_http2(url, path, body, fields, method=method, patience=timeout)
                    response = await _collect(url, second, limit)
        except trio.TooSlowError:
            raise StreamError(f"{url} does not answer within {timeout:g} s") from None
        return response


async def _collect(url: str, opening: AbstractAsyncContextManager[wire.Response], limit: int) -> PeerResponse:
    async with opening as response:
        body = bytearray()
        while piece := await response.receive():
            body += piece
            if len(body) > limit:
                raise StreamError(f"{url} answers with more than {limit} bytes")
        return PeerResponse(response.status, dict(response.headers), bytes(body))
