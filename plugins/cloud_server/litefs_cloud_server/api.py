"""LiteFS Cloud's API: what nodes ask while they back up, and what people ask to get something back."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial

import trio
from litefs_backup_store.client import receive, restored
from litefs_backup_store.plan import Plan
from litefs_backup_store.vault import DatabaseUnknown
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from litefs import jsontext
from litefs.backup import BackupError
from litefs.ltx import Pos
from litefs.replication.pipes import ToThread
from litefs_cloud_server import changes, receiving, timeline
from litefs_cloud_server.calls import Call, Need, Server, Visit, called, visited
from litefs_cloud_server.clusters import Cluster
from litefs_cloud_server.errors import Refused, position
from litefs_cloud_server.metrics import metrics
from litefs_cloud_server.reading import as_sqlite
from litefs_cloud_server.registry import Registered
from litefs_cloud_server.timeline import iso

DRAIN = 4 << 20
"""Bytes of a refused file that are read before the answer."""

REGION = "local"
"""Where everything is: LiteFS Cloud's clients want to hear of a place."""

PAGE = 50
"""Clusters in an answer that does not ask for more or less."""


def routes(server: Server) -> list[BaseRoute]:
    """The API's routes."""
    return [
        called(server, "/pos", "GET", positions),
        called(server, "/hwm", "GET", high_water_marks),
        called(server, "/db/info", "GET", info),
        called(server, "/db/snapshot", "GET", snapshot),
        called(server, "/db/restore/check", "GET", check_restore),
        called(server, "/db/restore", "POST", restore, Need.WRITE),
        called(server, "/db/tx", "POST", write, Need.WRITE),
        called(server, "/db/upload", "POST", upload, Need.WRITE),
        called(server, "/db/", "DELETE", remove, Need.MANAGE),
        called(server, "/db", "DELETE", remove, Need.MANAGE),
        visited(server, "/clusters", "GET", clusters),
        visited(server, "/clusters", "POST", create_cluster, Need.MANAGE),
        visited(server, "/clusters", "DELETE", delete_cluster, Need.MANAGE),
        visited(server, "/regions", "GET", regions),
        visited(server, "/metrics", "GET", metrics),
        Route("/livez", _alive),
        Route("/readyz", partial(_ready, server)),
    ]


async def _alive(request: Request) -> Response:
    return Response("ok\n", media_type="text/plain")


async def _ready(server: Server, request: Request) -> Response:
    """Whether the storage can be used."""
    try:
        await trio.to_thread.run_sync(server.tokens.all)
    except BackupError:
        return Response("the storage of this server cannot be used now\n", 503, media_type="text/plain")
    return Response("ok\n", media_type="text/plain")


# ----------------------------------------------------------------------------------------------------------- clusters


async def clusters(visit: Visit) -> Response:
    """The clusters that the token is for."""
    query = visit.request.query_params
    offset, limit = _number(query.get("offset", ""), 0), _number(query.get("limit", ""), PAGE)
    registered = await trio.to_thread.run_sync(visit.server.registry.all)
    found = [each for each in registered if visit.token.reaches(each.name)]
    shown = [_cluster(each) for each in found[offset : offset + limit]]
    return JSONResponse({"offset": offset, "limit": limit, "total": len(found), "clusters": shown})


def _number(text: str, default: int) -> int:
    return min(int(text[:9]), 10_000) if text.isascii() and text.isdigit() else default


def _cluster(found: Registered) -> dict[str, object]:
    created = iso(found.created * 1000)
    return {"orgID": 0, "name": found.name, "region": REGION, "createdAt": created, "updatedAt": created}


async def create_cluster(visit: Visit) -> Response:
    """Make a cluster known, which has no databases yet."""
    try:
        content = jsontext.loads(await receiving.read(visit.request, 4096))
        name = str(content["cluster"])
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "EBADINPUT", 'the body must be JSON, like {"cluster": "my-cluster"}') from None
    found = await trio.to_thread.run_sync(visit.server.registry.add, name)
    return JSONResponse(_cluster(found))


async def delete_cluster(visit: Visit) -> Response:
    """Forget a cluster, with all of its backups and tokens."""
    name = visit.request.query_params.get("cluster", "")
    if await trio.to_thread.run_sync(visit.server.registry.find, name) is None:
        raise Refused(404, "EBADCLUSTER", "cluster not found")
    await changes.remove_cluster(visit.server, name)
    return Response()


async def regions(visit: Visit) -> Response:
    """There is one place only."""
    return JSONResponse({"regions": [REGION]})


# ------------------------------------------------------------------------------------------------------------ reading


async def positions(call: Call) -> Response:
    """Where every database stands."""
    found = await trio.to_thread.run_sync(call.cluster.vault.positions)
    return JSONResponse({name: position(pos) for name, pos in found.items()})


async def high_water_marks(call: Call) -> Response:
    """Up to which transaction every database is stored."""
    found = await trio.to_thread.run_sync(call.cluster.vault.positions)
    return JSONResponse({name: f"{pos.txid:016x}" for name, pos in found.items()})


async def info(call: Call) -> Response:
    """The oldest and the newest state of a database that can be had."""
    name = call.database
    found = await trio.to_thread.run_sync(timeline.read, call.cluster.vault, name)
    if not found.points:
        raise DatabaseUnknown(name)
    newest, oldest = found.points[0], found.points[-1]
    return JSONResponse(
        {
            "name": name,
            "minTimestamp": iso(oldest.timestamp),
            "minTxId": f"{oldest.pos.txid:016x}",
            "maxTimestamp": iso(newest.timestamp),
            "maxTxId": f"{newest.pos.txid:016x}",
        }
    )


async def check_restore(call: Call) -> Response:
    """What a restore would lead to."""
    found: Plan = await trio.to_thread.run_sync(partial(call.cluster.vault.plan, call.database, **call.some_state))
    return JSONResponse({"txID": f"{found.pos.txid:016x}", "timestamp": iso(found.timestamp)})


async def snapshot(call: Call) -> Response:
    """A state as a snapshot LTX file or, with ``format=sqlite``, as a database."""
    name, state = call.database, call.state
    kind = call.request.query_params.get("format", "ltx")
    if kind not in ("ltx", "sqlite"):
        raise Refused(400, "EBADFORMAT", "format must be ltx or sqlite")
    txid = (await trio.to_thread.run_sync(call.cluster.vault.head, name)).pos.txid
    stack = AsyncExitStack()
    try:
        if kind == "ltx":
            found = await stack.enter_async_context(restored(call.cluster.vault, name, **state))
        else:
            found = (await stack.enter_async_context(as_sqlite(call.cluster.vault, name, **state))).pieces()
        first = await anext(found, b"")  # what cannot be had is refused before the answer begins
    except BaseException:
        with trio.CancelScope(shield=True):
            await stack.aclose()
        raise
    call.server.counters.snapshots[call.name] += 1
    if not state and "litefs-cluster-id" in call.request.headers:
        call.cluster.fetched[name] = txid, time.time()

    async def body() -> AsyncIterator[bytes]:
        async with stack:
            yield first
            async for piece in found:
                yield piece

    return StreamingResponse(body(), media_type="application/octet-stream")


# ------------------------------------------------------------------------------------------------------------ writing


async def write(call: Call) -> Response:
    """Store a file that follows what is there."""
    name, size = call.database, 0
    with call.cluster.changing():
        pipe = ToThread(partial(_store, call.cluster, name))
        body = receiving.pieces(call.request)
        try:
            async for piece in body:
                call.cluster.check_there()
                size += len(piece)
                await pipe.put(piece)
            pos = await pipe.finish()
        except BackupError:
            await _drain(body)
            raise
        finally:
            await pipe.aclose()
    call.server.counters.uploads[call.name] += 1
    call.server.counters.upload_bytes[call.name] += size
    call.cluster.caretaker.touched(name)
    return Response(headers={"Litefs-Hwm": f"{pos.txid:016x}"})


def _store(cluster: Cluster, name: str, read: Callable[[int], bytes]) -> Pos:
    """Verify a file while it comes in, then store it; the new position. Runs in a worker."""
    return receive(cluster.vault, name, read, lock=cluster.lock(name))


async def _drain(body: AsyncIterator[bytes]) -> None:
    """Read a little of what is still coming: a client that may not finish its request would not see the answer."""
    left = DRAIN
    async for piece in body:
        left -= len(piece)
        if left < 0:
            return


async def restore(call: Call) -> Response:
    """Make an earlier state the newest one: the cluster's primary fetches it within 10 seconds."""
    pos = await changes.restore(call.server, call.name, call.cluster, call.database, call.some_state)
    return JSONResponse({"txID": f"{pos.txid:016x}"})


async def upload(call: Call) -> Response:
    """Make a SQLite file the newest state of a database, or a new database."""
    name = call.database
    with tempfile.TemporaryFile(prefix="litefs-upload-", buffering=0) as file:
        await receiving.into(call.request, file)
        pos = await changes.put(call, name, file)
    return JSONResponse({"txID": f"{pos.txid:016x}"})


async def remove(call: Call) -> Response:
    """Forget a database, with all of its past."""
    await changes.remove_database(call.name, call.cluster, call.database)
    return Response()
