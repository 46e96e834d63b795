"""LiteFS Cloud's API: what nodes ask while they back up, and what people ask to get something back."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import trio
from litefs_backup_store.client import receive, restored
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from litefs.backup import BackupError
from litefs.errors import LTXError
from litefs.ltx import Pos, parse_txid
from litefs.replication.pipes import ToThread
from litefs.store.names import check_name
from litefs_cloud_server.clusters import Cluster, Clusters
from litefs_cloud_server.errors import Refused, position, refused, response
from litefs_cloud_server.reading import as_sqlite
from litefs_cloud_server.tokens import Token, Tokens

log = logging.getLogger(__name__)

DRAIN = 4 << 20
"""Bytes of a refused file that are read before the answer."""

INSTANCE = "litefs"
"""What nodes echo, so that a load balancer could find the instance that has their cluster: there is one."""


@dataclass(slots=True)
class Server:
    """What requests need.

    Attributes:
        uploads: files stored since the start, by cluster.
    """

    tokens: Tokens
    clusters: Clusters
    uploads: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    locks: dict[tuple[str, str], trio.Lock] = field(default_factory=lambda: defaultdict(trio.Lock))


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be served."""

    server: Server
    request: Request
    token: Token
    cluster: Cluster

    @property
    def database(self) -> str:
        """The database that it is about. Raises BadName, Refused."""
        name = self.request.query_params.get("db", "")
        if not name:
            raise Refused(400, "EBADDB", "database name required")
        return check_name(name)

    @property
    def state(self) -> dict[str, int]:
        """The state that it asks for: ``txid`` or ``timestamp``, or neither. Raises Refused."""
        query = self.request.query_params
        try:
            if text := query.get("txid", ""):
                return {"txid": parse_txid(text.lower().rjust(16, "0"))}
            if text := query.get("timestamp", ""):
                return {"timestamp": int(datetime.fromisoformat(text).timestamp() * 1000)}
        except (ValueError, LTXError):
            raise Refused(400, "EBADINPUT", f"cannot read {text[:64]!r}") from None
        return {}

    def lock(self, name: str) -> trio.Lock:
        """Held while a database changes."""
        return self.server.locks[self.token.cluster, name]


Handler = Callable[[Call], Awaitable[Response]]


def build(server: Server) -> Starlette:
    """The application."""

    def route(path: str, method: str, handler: Handler, *, writes: bool = False) -> Route:
        return Route(path, partial(_answer, server, handler, writes), methods=[method])

    return Starlette(
        routes=[
            route("/pos", "GET", positions),
            route("/hwm", "GET", high_water_marks),
            route("/clusters", "GET", clusters),
            route("/regions", "GET", regions),
            route("/db/tx", "POST", write, writes=True),
            route("/db/snapshot", "GET", snapshot),
            route("/db/restore", "POST", restore, writes=True),
            Route("/livez", _alive),
        ]
    )


async def _alive(request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def _answer(server: Server, handler: Handler, writes: bool, request: Request) -> Response:
    try:
        call = await _admit(server, request, writes=writes)
        answer = await handler(call)
    except ClientDisconnect:
        log.info("%s %s: the client is gone before its request was complete", request.method, request.url.path)
        return Response(status_code=400)  # nobody reads it
    except Exception as error:
        problem = refused(error, by_time="timestamp" in request.query_params)
        if problem.status != 404:
            log.info("%s %s: %s %s", request.method, request.url.path, problem.status, problem.text)
        answer = response(problem)
    answer.headers["Lfsc-Instance-Id"] = INSTANCE
    return answer


async def _admit(server: Server, request: Request, *, writes: bool) -> Call:
    """Who is asking, and whether he may. Raises Refused, OtherCluster."""
    token = await trio.to_thread.run_sync(server.tokens.find, request.headers.get("authorization", ""))
    if token is None:
        raise Refused(401, "EINVALIDAUTH", "invalid or missing token")
    wanted = request.query_params.get("cluster", token.cluster)
    if wanted != token.cluster:
        raise Refused(401, "EINVALIDAUTH", "the token is for another cluster")
    if writes and token.read_only:
        raise Refused(403, "EINVALIDAUTH", "the token may only read")
    cluster = await trio.to_thread.run_sync(server.clusters.get, token.cluster)
    if not token.read_only:
        await trio.to_thread.run_sync(cluster.check_id, request.headers.get("litefs-cluster-id", ""))
    return Call(server, request, token, cluster)


# ------------------------------------------------------------------------------------------------------------ reading


async def positions(call: Call) -> Response:
    """Where every database stands."""
    found = await trio.to_thread.run_sync(call.cluster.vault.positions)
    return JSONResponse({name: position(pos) for name, pos in found.items()})


async def high_water_marks(call: Call) -> Response:
    """Up to which transaction every database is stored."""
    found = await trio.to_thread.run_sync(call.cluster.vault.positions)
    return JSONResponse({name: f"{pos.txid:016x}" for name, pos in found.items()})


async def clusters(call: Call) -> Response:
    """The cluster that the token is for."""
    return JSONResponse([{"name": call.token.cluster, "clusterID": call.cluster.cluster_id}])


async def regions(call: Call) -> Response:
    """There is one place only."""
    return JSONResponse([])


async def snapshot(call: Call) -> Response:
    """A state as a snapshot LTX file or, with ``format=sqlite``, as a database."""
    name, state = call.database, call.state
    kind = call.request.query_params.get("format", "ltx")
    if kind not in ("ltx", "sqlite"):
        raise Refused(400, "EBADFORMAT", "format must be ltx or sqlite")
    stack = AsyncExitStack()
    try:
        source = (
            restored(call.cluster.vault, name, **state)
            if kind == "ltx"
            else as_sqlite(call.cluster.vault, name, **state)
        )
        pieces = await stack.enter_async_context(source)
        first = await anext(pieces, b"")  # what cannot be had is refused before the answer begins
    except BaseException:
        with trio.CancelScope(shield=True):
            await stack.aclose()
        raise

    async def body() -> AsyncIterator[bytes]:
        async with stack:
            yield first
            async for piece in pieces:
                yield piece

    return StreamingResponse(body(), media_type="application/octet-stream")


# ------------------------------------------------------------------------------------------------------------ writing


async def write(call: Call) -> Response:
    """Store a file that follows what is there."""
    name = call.database
    async with call.lock(name):
        pipe = ToThread(partial(receive, call.cluster.vault, name))
        body = call.request.stream()
        try:
            async for piece in body:
                if piece:
                    await pipe.put(piece)
            pos = await pipe.finish()
        except BackupError:
            await _drain(body)
            raise
        finally:
            await pipe.aclose()
    call.server.uploads[call.token.cluster] += 1
    call.cluster.caretaker.touched(name)
    return Response(headers={"Litefs-Hwm": f"{pos.txid:016x}"})


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read a little of what is still coming: a client that may not finish its request would not see the answer."""
    left = DRAIN
    async for piece in body:
        left -= len(piece)
        if left < 0:
            return


async def restore(call: Call) -> Response:
    """Make an earlier state the newest one: the cluster's primary fetches it within 10 seconds."""
    name, state = call.database, call.state
    if not state:
        raise Refused(400, "EBADINPUT", "timestamp or txid required")
    async with call.lock(name):
        again = partial(call.cluster.vault.append_state, name, **state)
        with trio.CancelScope(shield=True):
            pos: Pos = await trio.to_thread.run_sync(again)
    call.cluster.caretaker.touched(name)
    log.info('%s: "%s" was restored as transaction %016x', call.token.cluster, name, pos.txid)
    return JSONResponse({"txID": f"{pos.txid:016x}"})
