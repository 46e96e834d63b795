"""``POST /promote``, ``POST /handoff`` and ``POST /demote``: change the primary while both nodes are well."""

from __future__ import annotations

from starlette.responses import Response

from litefs.errors import LitefsError
from litefs.http.errors import HTTPError
from litefs.http.exchange import NODE_ID, Exchange
from litefs.http.services import Services


async def promote(exchange: Exchange, services: Services) -> Response:
    """Make this node the primary. Answered when the present one has agreed, not when it is done."""
    role = services.role
    if role.is_primary:
        return Response()
    if not role.candidate:
        raise HTTPError(409, "not eligible to become primary")
    if role.primary is None:
        raise HTTPError(500, "no primary is currently available for handoff, cannot promote")
    try:
        await services.leadership.promote()
    except LitefsError as error:
        raise HTTPError(500, f"handoff failed: {error}") from error
    return Response()


async def handoff(exchange: Exchange, services: Services) -> Response:
    """Hand the primary role over to the node that asks."""
    target = exchange.param("nodeID")
    if not NODE_ID.fullmatch(target):
        raise HTTPError(400, "invalid node id")
    node_id = int(target, 16)
    if not services.role.is_primary:
        raise HTTPError(500, "cannot handoff: node is not currently primary")
    if node_id not in services.streams.peers:
        raise HTTPError(500, "cannot handoff: target node is not currently connected")
    try:
        await services.leadership.handoff(node_id)
    except LitefsError as error:
        raise HTTPError(500, f"cannot handoff: {error}") from error
    return Response()


async def demote(exchange: Exchange, services: Services) -> Response:
    """Give the primary role up: to the target, or to whoever takes it. Answered when this node is not primary."""
    target = exchange.param("target")
    if target and not NODE_ID.fullmatch(target):
        raise HTTPError(400, "invalid node id")
    try:
        await services.leadership.demote(int(target, 16) if target else None)
    except LitefsError as error:
        raise HTTPError(500, f"cannot demote: {error}") from error
    return Response()
