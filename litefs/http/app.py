"""The application: every route of the API in one table."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from litefs.http import halt, page
from litefs.http.debug import variables
from litefs.http.endpoint import ANY, Endpoint, Handler
from litefs.http.errors import HTTPError
from litefs.http.events import events
from litefs.http.exchange import Exchange
from litefs.http.exporting import export
from litefs.http.importing import import_
from litefs.http.info import info, livez, readyz
from litefs.http.leadership import demote, handoff, promote
from litefs.http.metrics import Metrics
from litefs.http.services import Services
from litefs.http.status import status
from litefs.http.stream import stream

PAGE = {"/login", "/logout", "/status", "/events", "/promote", "/demote"}  # what the status page may ask for
OPEN = {"/", "/login", "/logout", "/page.js", "/page.css"}  # need no token: the page itself asks for it
BARE = {"/metrics", "/debug/vars"}  # answered without the ids of node and cluster


def build(services: Services) -> Starlette:
    """The API of a node."""
    routes: dict[str, dict[str, Handler]] = {
        "/": {ANY: page.page},
        "/login": {"POST": page.login},
        "/logout": {"POST": page.logout},
        "/page.js": {"GET": page.script},
        "/page.css": {"GET": page.style},
        "/info": {"GET": info},
        "/livez": {"GET": livez},
        "/readyz": {"GET": readyz},
        "/status": {"GET": status},
        "/stream": {"POST": stream},
        "/import": {"POST": import_},
        "/export": {"GET": export},
        "/events": {"GET": events},
        "/promote": {"POST": promote},
        "/handoff": {"POST": handoff},
        "/demote": {"POST": demote},
        "/halt": {"POST": halt.acquire, "DELETE": halt.release},
        "/tx": {"POST": halt.write},
        "/metrics": {ANY: Metrics(services)},
        "/debug/vars": {ANY: variables},
    }
    endpoints = [
        Route(path, Endpoint(services, handlers, guarded=path not in {*services.exempt, *OPEN}, page=path in PAGE))
        for path, handlers in routes.items()
    ]
    app = Starlette(routes=endpoints, middleware=[Middleware(NodeHeaders, services=services)])
    default = Endpoint(services, {ANY: not_found}, guarded=False)
    app.router = Router(app.router.routes, redirect_slashes=False, default=default)
    return app


async def not_found(exchange: Exchange, services: Services) -> None:
    """The answer for unknown paths."""
    raise HTTPError(404, "404 page not found")


class NodeHeaders:
    """Puts the ids of node and cluster on every response, save those that LiteFS leaves without."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_ids(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self._ids()]
            await send(message)

        bare = scope["type"] != "http" or scope["path"] in BARE
        await self._app(scope, receive, send if bare else send_with_ids)

    def _ids(self) -> list[tuple[bytes, bytes]]:
        store = self._services.store
        ids = [(b"litefs-id", b"%016X" % store.node_id)]
        if store.cluster_id:
            ids.append((b"litefs-cluster-id", store.cluster_id.encode("latin-1")))
        return ids
