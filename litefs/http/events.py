"""``GET /events``: what happens on this node, one JSON object a line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from starlette.responses import Response

from litefs.http.exchange import Exchange, until
from litefs.http.services import Role, Services
from litefs.ltx import format_checksum, format_txid
from litefs.store.events import Event, TxEvent


async def events(exchange: Exchange, services: Services) -> Response | None:
    """Send ``init`` and then every event, until the client leaves, falls too far behind, or the node stops."""
    async with (
        services.store.events.subscribe() as channel,
        exchange.respond("application/json") as write,
        until(services.closing),
    ):
        await write(encode_init(services.role))
        async for event in channel:
            await write(encode(event))
    return None


def encode_init(role: Role) -> bytes:
    """The first line: the state that the following events change."""
    hostname = role.primary.hostname if role.primary is not None else None
    return _line({"type": "init", "data": _primary(role.is_primary, hostname)})


def encode(event: Event) -> bytes:
    """The line of an event."""
    if isinstance(event, TxEvent):
        return _line({"type": "tx", "db": event.db, "data": _transaction(event)})
    return _line({"type": "primaryChange", "data": _primary(event.is_primary, event.hostname)})


def _transaction(event: TxEvent) -> dict[str, object]:
    return {
        "txID": format_txid(event.txid),
        "postApplyChecksum": format_checksum(event.checksum),
        "pageSize": event.page_size,
        "commit": event.commit,
        "timestamp": timestamp(event.timestamp),
    }


def _primary(is_primary: bool, hostname: str | None) -> dict[str, object]:
    data: dict[str, object] = {"isPrimary": is_primary}
    if hostname:
        data["hostname"] = hostname
    return data


def timestamp(ms: int) -> str:
    """RFC 3339 in UTC with three digits of a second, from milliseconds since the epoch."""
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03d}Z"


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape") + b"\n"
