"""The application: the API."""

from __future__ import annotations

from starlette.applications import Starlette

from litefs_cloud_server import api
from litefs_cloud_server.calls import Server


def build(server: Server) -> Starlette:
    """All routes."""
    return Starlette(routes=api.routes(server))
