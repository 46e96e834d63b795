"""``POST /stream``: replication, over HTTP/2 for LiteFS and over HTTP/1.1 between nodes of this implementation."""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus

from starlette.responses import Response

from litefs.errors import StreamError
from litefs.http.errors import HTTPError
from litefs.http.exchange import Exchange
from litefs.http.services import Services
from litefs.replication.members import TERM, introduced
from litefs.replication.posmap import MAX_BODY

HTTP1_HEADER = "litefs-stream"
"""Sent, as ``Litefs-Stream: 1``, by a client that takes a stream over HTTP/1.1; five times as fast as HTTP/2."""


async def stream(exchange: Exchange, services: Services) -> Response | None:
    """Send a replica everything it lacks, and then what happens, until either side ends.

    When the node stops, the replication server ends its streams in good order; `serve` cuts off what takes too long.
    """
    if not exchange.http2 and exchange.headers.get(HTTP1_HEADER) != "1":
        raise HTTPError(HTTPStatus.UPGRADE_REQUIRED, "Upgrade to HTTP/2 required")
    if exchange.peer_id == services.store.node_id:
        raise HTTPError(HTTPStatus.BAD_REQUEST, "cannot connect to self")
    if not services.store.writable:
        raise HTTPError(HTTPStatus.SERVICE_UNAVAILABLE, "lease expired")
    body = await exchange.read(MAX_BODY)
    member = introduced(exchange.peer_id, exchange.headers)
    try:
        names = _filter(exchange.param("filter"))
        tell_term = TERM in exchange.headers
        opened = await services.streams.stream(body, names, exchange.peer_id, member, tell_term=tell_term)
    except StreamError as error:
        raise HTTPError(HTTPStatus.BAD_REQUEST, str(error)) from error
    async with aclosing(opened), exchange.respond("application/octet-stream") as write:
        async for piece in opened:
            await write(piece)
    return None


def _filter(text: str) -> frozenset[str] | None:
    names = frozenset(name for name in text.split(",") if name)
    return names or None
