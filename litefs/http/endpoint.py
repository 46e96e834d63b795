"""From a path to its handlers: methods, errors, the log line."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from litefs.errors import LitefsError
from litefs.http.admission import check
from litefs.http.errors import HTTPError, ResponseAborted, as_http_error, error_response
from litefs.http.exchange import Exchange
from litefs.http.services import Services
from litefs.lifecycle import unwrap

log = logging.getLogger("litefs.http")

Handler = Callable[[Exchange, Services], Awaitable[Response | None]]
"""Answers a request: returns the response, or None when it has streamed one."""

ANY = "*"


class Endpoint:
    """The application of one path.

    Args:
        handlers: handler by method; `ANY` for all others.
        guarded: whether a request must carry the node's token, if it has one.
        page: whether it may be from the status page.
    """

    def __init__(
        self, services: Services, handlers: dict[str, Handler], *, guarded: bool, page: bool = False
    ) -> None:  # fmt: skip
        self._services = services
        self._handlers = handlers
        self._guarded = guarded
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close"})  # refused with 403
        exchange = Exchange(scope, receive, send)
        try:
            response = await self._answer(exchange)
        except Exception as error:
            response = await self._failed(exchange, error)
        if response is not None:
            await response(scope, receive, send)
        return None

    async def _answer(self, exchange: Exchange) -> Response | None:
        check(exchange, self._services, guarded=self._guarded, page=self._page)
        handler = self._handlers.get(exchange.method) or self._handlers.get(ANY)
        if handler is None:
            raise HTTPError(HTTPStatus.METHOD_NOT_ALLOWED, "method not allowed")
        return await handler(exchange, self._services)

    async def _failed(self, exchange: Exchange, error: Exception) -> Response:
        error = unwrap(error)
        answer = as_http_error(error)
        refused = isinstance(error, (HTTPError, LitefsError))
        bug = not refused and not isinstance(error, OSError)
        level = logging.INFO if refused else logging.ERROR
        if answer.status != HTTPStatus.NOT_FOUND or not isinstance(error, HTTPError):  # LiteFS logs no unknown paths
            log.log(level, "http: %s %s: error: %s", exchange.method, exchange.scope["path"], error, exc_info=bug)
        if exchange.started:
            raise ResponseAborted
        await exchange.drain()
        return error_response(answer)
