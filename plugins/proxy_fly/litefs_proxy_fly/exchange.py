"""One request to the application and its response: both bodies stream, each only as fast as it is taken."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic

import trio

from litefs_proxy_fly import bodies, sockets
from litefs_proxy_fly.account import Account
from litefs_proxy_fly.bodies import BadBody, Body
from litefs_proxy_fly.client import Client, ClientGone, Phase
from litefs_proxy_fly.heads import (
    CHUNKED,
    MAX_RESPONSE_HEAD,
    UNTIL_CLOSE,
    BadResponse,
    Request,
    Response,
    parse_response,
)
from litefs_proxy_fly.replays import Elsewhere, Watch
from litefs_proxy_fly.tunnel import tunnel
from litefs_proxy_fly.upstream import Lost, Pool, Upstream

CONTINUE_WAIT = 1.0  # seconds for the application to say 100 (Continue); after that we do, since it may not know how
SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})  # methods that may be sent a second time


_NO_BODY = bytearray()  # stays empty

Extra = Callable[[Response], Awaitable[bytes]]


class Replay(Exception):
    """Another node is to have the request."""

    def __init__(self, elsewhere: Elsewhere) -> None:
        super().__init__(elsewhere)
        self.elsewhere = elsewhere


class Exchange:
    """Forwards one request.

    Args:
        client: who sent it.
        request: its head.
        account: what is noted of it.
        keep_alive: whether the client's connection may go on afterwards.

    Attributes:
        head: what is sent for the request's head.
        fields: further header lines for the client.
        extra: makes more of them, once the response's head is there.
        keep: bytes of the body that are kept, so that the request can be sent once more.
        watch: looks at each response whose request can be sent once more.
        replayed: whether another node gets the request after the application here has had it.
    """

    def __init__(self, client: Client, request: Request, account: Account, *, keep_alive: bool) -> None:
        self._client = client
        self._request = request
        self._account = account
        self._keep_alive = keep_alive
        self.head = request.head
        self.fields = b""
        self.extra: Extra | None = None
        self.watch: Watch | None = None
        self.replayed = False
        self.keep = 0
        self._ran = False
        # Of the body, as it was sent; None when that was too much.
        self._record: bytearray | None = bytearray() if request.length else _NO_BODY
        self._pool: Pool
        self._body: Body = bodies.reader(request.length)
        self._continued = not request.expects
        self._continue = trio.Event() if request.expects else None
        self._upload_failure: Exception | None = None
        self._kept = False  # whether the connection to the application was given back
        self._left = b""  # what the application sent after its response

    async def run(self, pool: Pool) -> bool:
        """Do it; whether the client's connection can be used further.

        After Unreachable, Lost before anything was heard, and Replay it can be run once more.

        Args:
            pool: where connections to the application are.

        Raises Replay, UpstreamError and BadResponse where there is no proper response, BadBody where the request's body
        breaks its framing, ClientGone.
        """
        self._pool = pool
        if self._ran and self._record is None:
            raise Lost("the request's body is too big to be sent again")
        self._ran = True
        first = bytes(self._record or b"")
        if not self._body.done:
            first += self._upload_part(self._client.data)
        again = self._body.done and not first and self._request.method in SAFE
        while True:
            upstream = pool.take(careful=not again) or await pool.connect()
            try:
                return await self._attempt(upstream, first)
            except Lost as lost:
                if not upstream.reused or self._client.started or not (again or lost.unheard):
                    raise
            finally:
                if not self._kept:
                    upstream.close()

    async def _attempt(self, upstream: Upstream, first: bytes) -> bool:
        await upstream.begin(self.head + first if first else self.head)
        if self._body.done:
            return await self._download(upstream)
        return await self._both_ways(upstream)

    # ----------------------------------------------------------------------------------------------- the request's body

    def _upload_part(self, data: bytes) -> bytes:
        """Take what belongs to the body, framed for the application.  Raises BadBody."""
        payload, self._client.data = self._body.take(data) if data else (b"", b"")
        if self._body.done:
            self._client.body_read()
        framed = payload
        if self._request.length == CHUNKED:
            framed = bodies.chunk(payload)
            if self._body.done:
                framed += bodies.last_chunk(self._body.trailers)
        if self._record is not None:
            self._record += framed
            if len(self._record) > self.keep:
                self._record = None
        return framed

    async def _both_ways(self, upstream: Upstream) -> bool:
        failure: Exception | None = None
        go_on = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._upload, upstream, nursery.cancel_scope)
            try:
                go_on = await self._download(upstream)
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
        # Where the client is at fault, what became of the response is a consequence.
        if self._upload_failure is not None and not self._client.started:
            raise self._upload_failure
        if failure is not None:
            raise failure
        return go_on and self._upload_failure is None and await self._client.drain(self._body)

    async def _upload(self, upstream: Upstream, scope: trio.CancelScope) -> None:
        try:
            if not self._continued:
                await self._await_continue()
            while not self._body.done:
                data = await self._client.receive(sockets.BODY)
                if not data:
                    raise ClientGone
                await upstream.send(self._upload_part(data))
        except Lost:
            pass  # it may have answered before it closed: reading finds out
        except (BadBody, ClientGone) as error:
            self._upload_failure = error
            scope.cancel()

    async def _await_continue(self) -> None:
        assert self._continue is not None
        with trio.move_on_after(CONTINUE_WAIT):
            await self._continue.wait()
        if not self._continued and not self._client.started:
            self._continued = True
            await self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._client.started = False

    # ----------------------------------------------------------------------------------------------------- the response

    async def _download(self, upstream: Upstream) -> bool:
        response, data = await self._response_head(upstream)
        self._account.status, self._account.answered = response.status, monotonic()
        if self.watch is not None and self._record is not None and (elsewhere := self.watch(response)) is not None:
            raise Replay(elsewhere)
        extra = self.fields if self.extra is None else self.fields + await self.extra(response)
        if response.status == 101:
            return await self._change_protocol(upstream, response, extra, data)
        chunked = response.length < 0 and not self._request.http10
        if (response.length < 0 and not chunked) or not self._continued:
            self._keep_alive = False
        head = self._head(response, extra, chunked)
        if len(data) == response.length:  # as mostly: all of it has come with the head
            self._account.sent = response.length
            if unsent := self._client.begin(head + data):
                await self._client.send(unsent)
        else:
            await self._relay(upstream, bodies.reader(response.length), head, data, chunked)
        if self._reusable(response):
            self._pool.put(upstream)
            self._kept = True
        return self._keep_alive

    async def _response_head(self, upstream: Upstream) -> tuple[Response, bytes]:
        """The final one; interim ones are passed on."""
        data = b""
        while True:
            head, data = await upstream.head(data, MAX_RESPONSE_HEAD)
            response = parse_response(head, self._request.method)
            if response.status >= 200 or response.status == 101:
                return response, data
            if response.status == 100:
                if self._continued:
                    continue  # said already, or never asked for
                self._continued = True
                if self._continue is not None:
                    self._continue.set()
            if not self._request.http10:
                await self._client.send(
                    b"HTTP/1.1 %d %b\r\n%b\r\n" % (response.status, response.reason, response.fields)
                )
                self._client.started = False

    def _head(self, response: Response, extra: bytes, chunked: bool) -> bytes:
        connection = b""
        if not self._keep_alive:
            connection = b"Connection: close\r\n"
        elif self._request.http10:
            connection = b"Connection: keep-alive\r\n"
        return b"HTTP/1.1 %d %b\r\n%b%b%b%b\r\n" % (
            response.status,
            response.reason,
            extra,
            response.fields,
            b"Transfer-Encoding: chunked\r\n" if chunked else b"",
            connection,
        )

    async def _relay(self, upstream: Upstream, body: Body, head: bytes, data: bytes, chunked: bool) -> None:
        """Pass the body on piece by piece, the head with the first of them.  Raises BadResponse when it breaks off."""
        out = head
        try:
            while True:
                if data or body.done:
                    payload, data = body.take(data) if data and not body.done else (b"", data)
                    framed = self._frame(payload, body, chunked)
                    self._account.sent += len(framed)
                    out = out + framed if framed else out
                if out:
                    await self._client.send(out)
                    out = b""
                if body.done:
                    self._left = data
                    return
                data = await upstream.receive(sockets.BODY)
                if not data:
                    body.ended()
        except (BadBody, Lost) as error:
            raise BadResponse(f"the application's response broke off: {error}") from None

    def _frame(self, payload: bytes, body: Body, chunked: bool) -> bytes:
        if not chunked:
            return payload
        framed = bodies.chunk(payload)
        return framed + bodies.last_chunk(body.trailers) if body.done else framed

    def _reusable(self, response: Response) -> bool:
        return self._body.done and response.keep_alive and response.length != UNTIL_CLOSE and not self._left

    async def _change_protocol(self, upstream: Upstream, response: Response, extra: bytes, data: bytes) -> bool:
        if not (self._request.upgrade and response.upgraded and self._body.done):
            raise BadResponse("the application changes the protocol though nobody asked for it")
        head = b"HTTP/1.1 101 %b\r\nConnection: Upgrade\r\n%b%b\r\n" % (response.reason, extra, response.fields)
        self._client.phase = Phase.TUNNEL
        self._client.deadline = float("inf")
        await self._client.send(head + data)
        await tunnel(self._client, upstream)
        return False
