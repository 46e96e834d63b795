"""What the web page answers."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import PurePosixPath
from urllib.parse import parse_qs, quote

import trio
from litefs_backup_store.head import Head
from litefs_backup_store.vault import DatabaseUnknown
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from litefs.store.names import check_name
from litefs_cloud_server import changes, receiving, timeline
from litefs_cloud_server.calls import Server, parse_state
from litefs_cloud_server.clusters import Cluster
from litefs_cloud_server.errors import Refused, refused
from litefs_cloud_server.reading import as_sqlite
from litefs_cloud_server.timeline import Point
from litefs_cloud_server.tokens import EVERY, Token
from litefs_cloud_server.web import dbviews, guard, views
from litefs_cloud_server.web.sessions import Session, Sessions
from litefs_cloud_server.web.wording import link

log = logging.getLogger(__name__)

FORM = 8 << 10
"""Bytes of the longest form."""

LISTED = 50
"""States on a page."""

BARS = 96
"""Parts of the timeline."""


@dataclass(frozen=True)
class Visitor:
    """Somebody who is logged in, and the request."""

    server: Server
    request: Request
    session: Session
    token: Token

    async def cluster(self) -> tuple[str, Cluster]:
        """The cluster that it is about. Raises Refused: also for those of others, whose names are not told."""
        name = self.request.path_params["cluster"]
        if not self.token.reaches(name) or await trio.to_thread.run_sync(self.server.registry.find, name) is None:
            raise Refused(404, "EBADCLUSTER", "there is no such cluster")
        cluster = await trio.to_thread.run_sync(self.server.clusters.get, name)
        cluster.check_there()
        return name, cluster

    def param(self, name: str) -> str:
        """A parameter of the URL; empty where there is none."""
        return self.request.query_params.get(name, "")


Page = Callable[[Visitor], Awaitable[Response]]


class Web:
    """The pages, and who is logged in."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sessions = Sessions()
        self._style = files("litefs_cloud_server.web").joinpath("style.css").read_text()

    def routes(self) -> list[BaseRoute]:
        """Its routes, next to the API's."""
        return [
            self._route("/", self._for_visitors(overview)),
            self._route("/c/{cluster}", self._for_visitors(cluster_page)),
            self._route("/c/{cluster}/hand-over", self._for_visitors(hand_over), "POST"),
            self._route("/c/{cluster}/db", self._for_visitors(database)),
            self._route("/c/{cluster}/download", self._for_visitors(download)),
            self._route("/c/{cluster}/restore", self._for_visitors(confirm)),
            self._route("/c/{cluster}/restore", self._for_visitors(restore), "POST"),
            self._route("/login", self._show_login),
            self._route("/login", self._log_in, "POST"),
            self._route("/logout", self._log_out, "POST"),
            Route("/style.css", self._give_style),
        ]

    def _route(self, path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
        return Route(path, partial(self._answered, answer), methods=[method])

    async def _answered(self, answer: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        try:
            if request.method == "POST":
                guard.check_same_site(request)
            return guard.protect(await answer(request))
        except Exception as error:
            problem = refused(error)
            session = self._sessions.find(request.cookies.get(guard.COOKIE, ""))
            return guard.protect(HTMLResponse(views.trouble(session, problem.text), problem.status))

    def _for_visitors(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            session = self._sessions.find(request.cookies.get(guard.COOKIE, ""))
            if session is None:
                return RedirectResponse("/login", 303)
            token = await trio.to_thread.run_sync(self._server.tokens.by_id, session.token_id)
            if token is None:  # it has been revoked
                return RedirectResponse("/login", 303)
            return await page(Visitor(self._server, request, session, token))

        return answer

    async def _show_login(self, request: Request) -> Response:
        return HTMLResponse(views.login(""))

    async def _log_in(self, request: Request) -> Response:
        given = (await form(request)).get("token", "")
        token = await trio.to_thread.run_sync(self._server.tokens.find, given)
        if token is None:
            return HTMLResponse(views.login("This token is not valid."), 401)
        secret, _ = self._sessions.begin(token.id)
        answer = RedirectResponse("/", 303)
        guard.give_cookie(request, answer, secret)
        return answer

    async def _log_out(self, request: Request) -> Response:
        secret = request.cookies.get(guard.COOKIE, "")
        session = self._sessions.find(secret)
        if session is not None:
            await proven_form(request, session)
            self._sessions.end(secret)
        answer = RedirectResponse("/login", 303)
        guard.take_cookie(answer)
        return answer

    async def _give_style(self, request: Request) -> Response:
        return Response(self._style, media_type="text/css", headers={"cache-control": "max-age=3600"})


async def form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises Refused when it is too long."""
    body = await receiving.read(request, FORM)
    return {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}


async def proven_form(request: Request, session: Session) -> dict[str, str]:
    """The fields of a form of this session. Raises Refused when another page has made it."""
    fields = await form(request)
    if not session.proven(fields.get("proof", "")):
        raise Refused(403, "EINVALIDAUTH", "this form is too old, or of another page: go back, reload, try again")
    return fields


# -------------------------------------------------------------------------------------------------------------- pages


async def overview(visitor: Visitor) -> Response:
    """All clusters of the token; the one, where it is for one only."""
    if visitor.token.cluster != EVERY:
        return RedirectResponse(f"/c/{visitor.token.cluster}", 303)
    rows = await trio.to_thread.run_sync(_look_at_all, visitor.server)
    return HTMLResponse(views.overview(visitor.session, rows))


def _look_at_all(server: Server) -> list[tuple[str, Cluster, list[Head]]]:
    found = [(each.name, server.clusters.get(each.name)) for each in server.registry.all()]
    return [(name, cluster, cluster.vault.heads()) for name, cluster in found]


async def cluster_page(visitor: Visitor) -> Response:
    """One cluster. A token's cluster is there as soon as the token is."""
    name, cluster = await visitor.cluster()
    heads = await trio.to_thread.run_sync(cluster.vault.heads)
    heads.sort(key=lambda head: head.database)
    return HTMLResponse(views.cluster_page(visitor.session, name, cluster, heads, changes=not visitor.token.read_only))


async def hand_over(visitor: Visitor) -> Response:
    """Give a cluster's backup to another one that asks for it."""
    name, cluster = await visitor.cluster()
    _check_writes(visitor)
    fields = await proven_form(visitor.request, visitor.session)
    await trio.to_thread.run_sync(cluster.hand_over, fields.get("to", ""))
    visitor.session.notice = f"The backup belongs to the cluster with the id {cluster.cluster_id} now."
    return RedirectResponse(f"/c/{name}", 303)


async def database(visitor: Visitor) -> Response:
    """One database, perhaps with one of its states."""
    name, cluster = await visitor.cluster()
    wanted = parse_state(visitor.param("txid"), visitor.param("at"))
    until = parse_state(visitor.param("until"), "")
    before = visitor.param("until_time")
    if before.isascii() and before[:18].isdigit():
        until["timestamp"] = int(before[:18])
    look = partial(_look, visitor, name, cluster, check_name(visitor.param("db")), wanted, until)
    return HTMLResponse(dbviews.database(visitor.session, await trio.to_thread.run_sync(look)))


def _look(
    visitor: Visitor, name: str, cluster: Cluster, db: str, wanted: dict[str, int], until: dict[str, int]
) -> dbviews.Shown:
    """What there is to show of a database. Raises DatabaseUnknown, NoSuchState."""
    found = timeline.read(cluster.vault, db)
    if not found.points:
        raise DatabaseUnknown(db)
    chosen = None
    if wanted:
        plan = cluster.vault.plan(db, **wanted)
        chosen = Point(plan.pos, plan.timestamp)
    listed = [
        point
        for point in found.points
        if point.pos.txid <= until.get("txid", point.pos.txid)
        and point.timestamp <= until.get("timestamp", point.timestamp)
    ]
    return dbviews.Shown(
        cluster_name=name,
        cluster=cluster,
        head=cluster.vault.head(db),
        stored=found.stored,
        count=len(found.points),
        points=listed[:LISTED],
        older=listed[LISTED] if len(listed) > LISTED else None,
        bars=timeline.bars(found.points, BARS),
        chosen=chosen,
        changes=not visitor.token.read_only,
    )


async def confirm(visitor: Visitor) -> Response:
    """Ask before restoring."""
    name, cluster = await visitor.cluster()
    _check_writes(visitor)
    asked = visitor.param("txid")
    wanted = parse_state(asked, visitor.param("at"))
    if not wanted:
        raise Refused(400, "EBADINPUT", "no state was named")
    look = partial(_look, visitor, name, cluster, check_name(visitor.param("db")), wanted, {})
    shown = await trio.to_thread.run_sync(look)
    return HTMLResponse(dbviews.confirm(visitor.session, shown, asked.lstrip("0").lower()))


async def restore(visitor: Visitor) -> Response:
    """Restore, if the state is still there as it was asked about."""
    name, cluster = await visitor.cluster()
    _check_writes(visitor)
    fields = await proven_form(visitor.request, visitor.session)
    db, wanted = check_name(fields.get("db", "")), parse_state(fields.get("txid", ""), "")
    if not wanted:
        raise Refused(400, "EBADINPUT", "no state was named")
    plan = await trio.to_thread.run_sync(partial(cluster.vault.plan, db, **wanted))
    if plan.pos.txid != wanted["txid"]:  # merged since it was shown: what comes instead has to be looked at
        return RedirectResponse(link(f"/c/{name}/restore", db=db, txid=fields["txid"]), 303)
    pos = await changes.restore(visitor.server, name, cluster, db, wanted)
    visitor.session.notice = f"The state of transaction {wanted['txid']:x} is back, as transaction {pos.txid:x}."
    return RedirectResponse(link(f"/c/{name}/db", db=db), 303)


def _check_writes(visitor: Visitor) -> None:
    if visitor.token.read_only:
        raise Refused(403, "EINVALIDAUTH", "Your token can only look and download.")


async def download(visitor: Visitor) -> Response:
    """A state as a SQLite file."""
    _, cluster = await visitor.cluster()
    db = check_name(visitor.param("db"))
    wanted = parse_state(visitor.param("txid"), visitor.param("at"))
    plan = await trio.to_thread.run_sync(partial(cluster.vault.plan, db, **wanted))
    stack = AsyncExitStack()
    try:
        image = await stack.enter_async_context(as_sqlite(cluster.vault, db, **wanted))
    except BaseException:
        with trio.CancelScope(shield=True):
            await stack.aclose()
        raise

    async def body() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in image.pieces():
                yield piece

    headers = {"content-length": str(image.size), "content-disposition": _attachment(db, plan.pos.txid)}
    return StreamingResponse(body(), media_type="application/vnd.sqlite3", headers=headers)


def _attachment(db: str, txid: int) -> str:
    path = PurePosixPath(db)
    name = f"{path.stem}-{txid:x}{path.suffix}"
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
