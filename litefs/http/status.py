"""``GET /status``: this node, its databases, and the other nodes it knows."""

from __future__ import annotations

import json

from starlette.responses import Response

from litefs.http.exchange import Exchange
from litefs.http.services import Services


async def status(exchange: Exchange, services: Services) -> Response:
    """One JSON object; with ``?databases=none`` without the databases, which may be many.

    With ``?lease=free`` a node that is about to take the lease says that nobody has it.
    """
    if exchange.param("lease") == "free":
        services.leadership.look()
    found = await services.status(databases=exchange.param("databases") != "none")
    # In ASCII: names of databases are bytes, which need not be UTF-8, and this way they come out as they went in.
    return Response(json.dumps(found) + "\n", media_type="application/json")
