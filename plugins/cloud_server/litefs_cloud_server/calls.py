"""What a request of the API is about: who asks, for which cluster, and whether he may."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import partial

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from litefs.errors import LTXError
from litefs.ltx import parse_txid
from litefs.store.names import check_name
from litefs_cloud_server.clusters import Cluster, Clusters
from litefs_cloud_server.counters import Counters
from litefs_cloud_server.errors import Refused, refused, response
from litefs_cloud_server.registry import Registry
from litefs_cloud_server.tokens import EVERY, Token, Tokens

log = logging.getLogger(__name__)

INSTANCE = "litefs"
"""What nodes echo, so that a load balancer could find the instance that has their cluster: there is one."""


@dataclass(slots=True)
class Server:
    """What requests need."""

    tokens: Tokens
    registry: Registry
    clusters: Clusters
    counters: Counters = field(default_factory=Counters)


class Need(Enum):
    """What a token must allow."""

    READ = "read"
    WRITE = "write"
    MANAGE = "manage"  # create and delete clusters


@dataclass(frozen=True)
class Visit:
    """A request by somebody who has shown a token."""

    server: Server
    request: Request
    token: Token


@dataclass(frozen=True)
class Call(Visit):
    """A request about one cluster.

    Attributes:
        name: of the cluster.
    """

    name: str
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
        return parse_state(query.get("txid", ""), query.get("timestamp", ""))

    @property
    def some_state(self) -> dict[str, int]:
        """The state that it asks for. Raises Refused where it names none."""
        if found := self.state:
            return found
        raise Refused(400, "EBADINPUT", "timestamp or txid required")


def parse_state(txid: str, timestamp: str) -> dict[str, int]:
    """A state by its transaction, in hexadecimal, or its time, in ISO 8601 and UTC unless it says otherwise.

    Raises:
        Refused: it cannot be read.
    """
    try:
        if txid:
            return {"txid": parse_txid(txid.strip().lower().rjust(16, "0"))}
        if timestamp:
            moment = datetime.fromisoformat(timestamp.strip())
            return {"timestamp": int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)}
    except (ValueError, LTXError, OverflowError):
        raise Refused(400, "EBADINPUT", f"cannot read {(txid or timestamp)[:64]!r}") from None
    return {}


def visited(
    server: Server, path: str, method: str, handler: Callable[[Visit], Awaitable[Response]], need: Need = Need.READ
) -> Route:
    """A route that is about the server."""

    async def answer(request: Request) -> Response:
        return await handler(Visit(server, request, await admit(server, request, need)))

    return Route(path, partial(_answered, server, answer), methods=[method])


def called(
    server: Server, path: str, method: str, handler: Callable[[Call], Awaitable[Response]], need: Need = Need.READ
) -> Route:
    """A route that is about one cluster."""

    async def answer(request: Request) -> Response:
        token = await admit(server, request, need)
        name = await _cluster_name(server, request, token)
        cluster = await trio.to_thread.run_sync(server.clusters.get, name)
        cluster.check_there()
        if not token.read_only:
            await trio.to_thread.run_sync(cluster.check_id, request.headers.get("litefs-cluster-id", ""))
        return await handler(Call(server, request, token, name, cluster))

    return Route(path, partial(_answered, server, answer), methods=[method])


async def admit(server: Server, request: Request, need: Need) -> Token:
    """Who is asking. Raises Refused where he may not."""
    token = await trio.to_thread.run_sync(server.tokens.find, request.headers.get("authorization", ""))
    if token is None:
        raise Refused(401, "EINVALIDAUTH", "invalid or missing token")
    if need is not Need.READ and token.read_only:
        raise Refused(403, "EINVALIDAUTH", "the token may only read")
    if need is Need.MANAGE and token.cluster != EVERY:
        raise Refused(403, "EINVALIDAUTH", "this takes a token for all clusters: litefs cloud token create -all")
    return token


async def _cluster_name(server: Server, request: Request, token: Token) -> str:
    wanted = request.query_params.get("cluster", "")
    if token.cluster != EVERY:
        if wanted not in ("", token.cluster):
            raise Refused(401, "EINVALIDAUTH", "the token is for another cluster")
        return token.cluster
    if not wanted:
        raise Refused(400, "EBADCLUSTER", "the token is for all clusters: name one with cluster=")
    if await trio.to_thread.run_sync(server.registry.find, wanted) is None:
        raise Refused(404, "EBADCLUSTER", "cluster not found")
    return wanted


async def _answered(server: Server, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
    path = request.url.path
    try:
        found = await answer(request)
    except ClientDisconnect:
        log.info("%s %s: the client is gone before its request was complete", request.method, path)
        found = Response(status_code=400)  # nobody reads it
    except Exception as error:
        problem = refused(error, by_time="timestamp" in request.query_params)
        if problem.status != 404:
            log.info("%s %s: %s %s", request.method, path, problem.status, problem.text)
        found = response(problem)
    server.counters.answered(request.method, path, found.status_code)
    found.headers["Lfsc-Instance-Id"] = INSTANCE
    return found
