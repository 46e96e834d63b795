"""The application: the API, and the web page."""

from __future__ import annotations

from starlette.applications import Starlette

from litefs_cloud_server import api
from litefs_cloud_server.calls import Server
from litefs_cloud_server.web.pages import Web


def build(server: Server) -> Starlette:
    """All routes."""
    return Starlette(routes=[*api.routes(server), *Web(server).routes()])
