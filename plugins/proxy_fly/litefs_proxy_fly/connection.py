"""Serves one client connection, request after request."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

import trio

from litefs.leases import PrimaryInfo
from litefs.ltx import Pos
from litefs_proxy_fly import answers, bodies
from litefs_proxy_fly.account import Account
from litefs_proxy_fly.answers import Answer
from litefs_proxy_fly.bodies import BadBody
from litefs_proxy_fly.client import DRAIN_MOST, Client, ClientGone, Phase
from litefs_proxy_fly.exchange import Exchange, Extra, Replay
from litefs_proxy_fly.forwarded import Forwarded, Origin
from litefs_proxy_fly.heads import BadRequest, BadResponse, Request, Response
from litefs_proxy_fly.outcomes import FORWARDED, GONE, LATE, OUTCOMES, REFUSED, TO_NODE, TO_PRIMARY
from litefs_proxy_fly.replays import Elsewhere
from litefs_proxy_fly.rules import Forward, Rules, ToPrimary, Verdict
from litefs_proxy_fly.upstream import Lost, Pool, Unreachable, UpstreamError

if TYPE_CHECKING:
    from litefs_proxy_fly.server import Server

log = logging.getLogger(__name__)

REPLAY_MOST = 1 << 20  # bytes of a body that are kept, so that it can be sent to another node
AGAIN = 0.1  # seconds between two attempts to reach a primary


class Connection:
    """One client and what it asks for."""

    _account: Account | None = None  # of the present request

    def __init__(self, server: Server, client: Client, rules: Rules, pool: Pool) -> None:
        self._server = server
        self._client = client
        self._rules = rules
        self._pool = pool
        self._host = pool.target.host_header
        self._known_origin: Origin | None = None

    async def run(self) -> None:
        """Serve it until it ends.  Raises nothing but Cancelled."""
        client = self._client
        try:
            with client.scope:
                while await self._one():
                    self._over()
                    client.rest()
                    if self._server.closing:
                        return
            if client.scope.cancelled_caught:
                await self._too_late()
        except (ClientGone, OSError):
            if self._account is not None:
                self._now(GONE)
        except Exception:
            log.exception("proxy: a connection was closed because of an unexpected error")
        finally:
            client.sock.close()
            self._over()

    def _over(self) -> None:
        """Account for a request."""
        account, self._account = self._account, None
        if account is None or not account.outcome:
            return
        if account.status != 101:  # however long that went on
            OUTCOMES.ended(account.outcome, monotonic() - account.began)
        if self._server.access_log is not None:
            self._server.access_log.add(account, self._client.address)

    async def _leave(self) -> None:
        """End the connection after its last answer."""
        self._over()
        await self._client.linger()

    def _now(self, outcome: str, status: int = 0) -> None:
        """What has become of the present request."""
        OUTCOMES.add(outcome)
        account = self._account
        if account is None:  # its head could not be read
            account = self._account = Account(self._client.began, None)
        account.outcome, account.status = outcome, status or account.status

    async def _too_late(self) -> None:
        """A time limit has passed; the client is told so if that is still possible."""
        client = self._client
        if client.idle:
            return
        if monotonic() < client.deadline:
            raise ClientGone
        self._now(LATE)
        assert self._account is not None
        if client.phase is Phase.HEADER:
            answer = answers.error(408, "the request's header took too long")
        elif client.phase is not Phase.EXCHANGE or client.started:
            return
        elif client.reading:
            answer = answers.error(408, "the request took too long")
        else:
            answer = answers.error(504, "the application took too long")
        self._account.status = answer.status
        await client.send(answer.encode(keep_alive=False))
        await self._leave()

    async def _one(self) -> bool:
        """Serve one request; whether the connection goes on."""
        try:
            request = await self._client.request(self._host)
            if request is None:
                return False
            self._account = Account(self._client.began, request)
            if self._server.forwarded is not None:
                self._server.forwarded.rewrite(request, self._origin(self._server.forwarded))
            verdict = await self._decide(request)
            if isinstance(verdict, Answer):
                return await self._answer(request, verdict)
            return await self._forward(request, verdict)
        except (BadRequest, BadBody) as error:
            return await self._refuse(error)

    async def _wait(self, request: Request) -> Verdict:
        """The decision, where it has to be waited for."""
        begin = monotonic()
        verdict = await self._rules.later(request)
        assert self._account is not None
        self._account.waited = monotonic() - begin
        OUTCOMES.waits.add(self._account.waited)
        return verdict

    def _timing(self) -> bytes:
        """A header line that tells the client how long its request had to wait."""
        if not self._server.timing or self._account is None or self._account.waited is None:
            return b""
        return b"Server-Timing: litefs-wait;dur=%.1f\r\n" % (self._account.waited * 1000)

    def _counted(self, answer: Answer) -> bytes:
        """Note an answer; further header lines for it."""
        self._now(answer.outcome, answer.status)
        return self._timing()

    def _origin(self, forwarded: Forwarded) -> Origin:
        if self._known_origin is None:
            self._known_origin = forwarded.origin(self._client.address)
        return self._known_origin

    # ------------------------------------------------------------------------------------------ without the application

    async def _answer(self, request: Request, answer: Answer) -> bool:
        more = self._counted(answer)
        body = bodies.reader(request.length)
        # A client that waits for 100 (Continue) is to send nothing; a big body is not worth reading.
        keep_alive = request.keep_alive and not self._server.closing and not request.expects
        keep_alive = keep_alive and request.length <= DRAIN_MOST and await self._client.drain(body)
        encoded = answer.encode(keep_alive=keep_alive, head=request.method == b"HEAD", http10=request.http10, more=more)
        await self._client.send(encoded)
        if not keep_alive:
            await self._leave()
        return keep_alive

    async def _refuse(self, error: BadRequest | BadBody) -> bool:
        status = error.status if isinstance(error, BadRequest) else 400
        self._now(REFUSED, 0 if self._client.started else status)
        if self._client.started:
            return False
        await self._client.send(Answer(status, str(error)).encode(keep_alive=False))
        await self._leave()
        return False

    # --------------------------------------------------------------------------------------------- with the application

    async def _forward(self, request: Request, verdict: Forward | ToPrimary) -> bool:
        keep_alive = request.keep_alive and not self._server.closing
        assert self._account is not None
        exchange = Exchange(self._client, request, self._account, keep_alive=keep_alive)
        exchange.fields = self._timing()
        exchange.keep = REPLAY_MOST if self._rules.forwards else 0
        try:
            if isinstance(verdict, Forward):
                go_on = await self._to_application(exchange, request, verdict)
            else:
                go_on = await self._to_primary(exchange, request, verdict)
        except (UpstreamError, BadResponse) as error:
            log.warning("proxy: %s %s: %s", request.method.decode(), request.target.decode(errors="replace"), error)
            if self._client.started:
                return False
            return await self._say(request, answers.error(502, str(error)))
        if not go_on and self._client.phase is Phase.EXCHANGE:
            await self._leave()
        return go_on

    async def _to_application(self, exchange: Exchange, request: Request, verdict: Forward) -> bool:
        self._now(FORWARDED)
        exchange.head = request.head
        if verdict.cookie:
            exchange.extra = self._position_cookie
        elif verdict.read and self._rules.replays.notices:
            exchange.extra = self._cookie_if_moved(self._rules.positions.now())
        if not exchange.replayed:
            exchange.watch = self._rules.replays.watch(request, read=verdict.read)
        try:
            if not verdict.write:
                return await exchange.run(self._pool)
            with self._rules.writing:
                return await exchange.run(self._pool)
        except Replay as replay:
            return await self._replay(exchange, request, replay.elsewhere)

    async def _position_cookie(self, response: Response) -> bytes:
        """Made when the response is there: the application has done its work by now."""
        return await self._rules.positions.cookies()

    def _cookie_if_moved(self, before: Sequence[Pos | None]) -> Extra:
        """For a read that may have written."""

        async def cookie(response: Response) -> bytes:
            positions = self._rules.positions
            return await positions.cookies() if positions.now() != before else b""

        return cookie

    async def _replay(self, exchange: Exchange, request: Request, elsewhere: Elsewhere) -> bool:
        """Have another node do what the application here has not done.  Once: its answer is the client's."""
        exchange.watch, exchange.extra, exchange.replayed = None, None, True
        if elsewhere.node is not None:
            return await self._to_node(exchange, request, elsewhere.node, elsewhere.source)
        verdict = await self._rules.as_write(request)
        if isinstance(verdict, Answer):
            return await self._say(request, verdict)
        if isinstance(verdict, Forward):
            return await self._to_application(exchange, request, verdict)
        return await self._to_primary(exchange, request, verdict, elsewhere.source)

    async def _to_node(self, exchange: Exchange, request: Request, node: PrimaryInfo, source: bytes) -> bool:
        """Send it to a node that nobody can stand in for."""
        self._now(TO_NODE)
        neighbour = self._server.primaries.of(node)
        exchange.head = request.head_from(self._server.node, replayed=True, source=source)
        try:
            return await exchange.run(await neighbour.pool())
        except Unreachable:
            neighbour.forget()
            raise

    async def _to_primary(
        self, exchange: Exchange, request: Request, verdict: ToPrimary, source: bytes = b""
    ) -> bool:  # fmt: skip
        """Send it there; when nothing could be sent, to whoever is primary by then."""
        self._now(TO_PRIMARY)
        give_up = monotonic() + self._rules.redirect_timeout
        exchange.head = request.head_from(self._server.node, source=source)
        while True:
            neighbour = self._server.primaries.of(verdict.primary)
            try:
                if verdict.redirect:
                    return await self._redirect(exchange, request, await neighbour.url())
                return await exchange.run(await neighbour.pool())
            except UpstreamError as error:
                unheard = isinstance(error, Unreachable) or (isinstance(error, Lost) and error.unheard)
                if self._client.started or not unheard:
                    raise
                neighbour.forget()
                if monotonic() >= give_up:
                    log.warning("proxy: %s", error)
                    return await self._say(request, answers.NO_PRIMARY)
            await trio.sleep(AGAIN)
            now = await (self._rules.as_write(request) if exchange.replayed else self._decide(request))
            if isinstance(now, Answer):
                return await self._say(request, now)
            if isinstance(now, Forward):
                return await self._to_application(exchange, request, now)
            verdict = now

    async def _redirect(self, exchange: Exchange, request: Request, url: str) -> bool:
        answer = answers.redirect(url, request)
        return await (self._say(request, answer) if exchange.replayed else self._answer(request, answer))

    async def _decide(self, request: Request) -> Verdict:
        return self._rules.now(request) or await self._wait(request)

    async def _say(self, request: Request, answer: Answer) -> bool:
        """Answer although parts of the request may have been read already."""
        more = self._counted(answer)
        # Where the next request begins is known only if there was no body.
        keep_alive = request.keep_alive and request.length == 0 and not self._server.closing
        encoded = answer.encode(keep_alive=keep_alive, head=request.method == b"HEAD", http10=request.http10, more=more)
        await self._client.send(encoded)
        if not keep_alive:
            await self._leave()
        return keep_alive
