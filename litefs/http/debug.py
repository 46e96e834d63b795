"""``GET /debug/vars``: the state of the node as JSON, for people."""

from __future__ import annotations

import json
import resource
import sys

from starlette.responses import Response

from litefs.http.exchange import Exchange
from litefs.http.services import Services
from litefs.ltx import format_checksum, format_txid


async def variables(exchange: Exchange, services: Services) -> Response:
    """LiteFS's variables, as far as they mean something here; databases that are open."""
    role = services.role
    databases = {
        db.name: {
            "name": db.name,
            "txid": format_txid(db.pos.txid),
            "checksum": format_checksum(db.pos.checksum),
            "published": format_txid(db.published.txid),
            "pageSize": db.page_size,
            "commit": db.commit,
        }
        for db in sorted(services.store.open_databases(), key=lambda db: db.name)
    }
    body = {
        "cmdline": _own_arguments(),
        "memstats": {"Sys": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024},
        "store": {"isPrimary": role.is_primary, "candidate": role.candidate, "dbs": databases},
    }
    text = json.dumps(body, indent=1) + "\n"
    return Response(text, headers={"content-type": "application/json; charset=utf-8"})


def _own_arguments() -> list[str]:
    """How the node was started, without the command it runs: that is another program's business, secrets included."""
    return sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
