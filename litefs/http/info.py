"""``GET /info``, ``/livez``, ``/readyz``: what the node is and whether it works."""

from __future__ import annotations

import json

from starlette.responses import PlainTextResponse, Response

from litefs.http.errors import PLAIN
from litefs.http.exchange import Exchange
from litefs.http.services import Services


async def info(exchange: Exchange, services: Services) -> Response:
    """Cluster, role and primary, as indented JSON that LiteFS sends as plain text."""
    store, role = services.store, services.role
    body: dict[str, object] = {"clusterID": store.cluster_id} if store.cluster_id else {}
    body |= {
        "isPrimary": role.is_primary,
        "candidate": role.candidate,
        "path": str(store.data_dir),
        "primary": {"hostname": role.primary_hostname or ""},
    }
    return Response(json.dumps(body, indent=2, ensure_ascii=False) + "\n", headers={"content-type": PLAIN})


async def livez(exchange: Exchange, services: Services) -> Response:
    """200 as long as the node answers at all."""
    return PlainTextResponse("ok\n")


async def readyz(exchange: Exchange, services: Services) -> Response:
    """200 once databases can be used, else 503 and the reason. Asked too often for it to be an error in the log."""
    reason = services.not_ready()
    return PlainTextResponse(f"{reason}\n", 503) if reason else PlainTextResponse("ok\n")
