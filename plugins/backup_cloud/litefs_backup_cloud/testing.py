"""For tests: a server of LiteFS Cloud's protocol inside the client, that answers from memory or as a test says."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx

from litefs.backup import DatabaseRefused, PositionConflict
from litefs.ltx import Pos
from litefs.testing import MemoryBackup
from litefs.testing.backups import pieces
from litefs_backup_cloud.client import CloudClient
from litefs_backup_cloud.settings import CloudSettings

TOKEN = "FlyV1 secret-token"
CLUSTER_ID = "LFSC0123456789ABCDEF"

Answer = Callable[[httpx.Request], httpx.Response | None]


def pos_json(pos: Pos) -> dict[str, str]:
    """A position as the protocol writes it."""
    return {"TXID": f"{pos.txid:016x}", "PostApplyChecksum": f"{pos.checksum:016x}"}


class Server:
    """Answers requests; `forced` is asked first."""

    def __init__(self, databases: dict[str, list[bytes]] | None = None) -> None:
        self.memory = MemoryBackup(databases)
        self.requests: list[httpx.Request] = []
        self.forced: Answer = lambda request: None

    def client(self, cluster: str = "") -> CloudClient:
        """A client of it."""
        settings = CloudSettings("http://127.0.0.1:1", TOKEN, cluster)
        return CloudClient(settings, lambda: CLUSTER_ID, transport=httpx.MockTransport(self.answer))

    async def answer(self, request: httpx.Request) -> httpx.Response:
        """What it says to a request."""
        body = await request.aread()
        self.requests.append(request)
        forced = self.forced(request)
        if forced is not None:
            return forced
        try:
            return await self._answer(request, body)
        except PositionConflict as conflict:
            answer = {"code": "EPOSMISMATCH", "error": "position mismatch", "pos": pos_json(conflict.pos)}
            return httpx.Response(409, json=answer)
        except DatabaseRefused as refused:
            return httpx.Response(400, content=json.dumps({"code": "EBADDB", "error": str(refused)}))

    async def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        name = request.url.params.get("db", "")
        if request.url.path == "/pos":
            positions = await self.memory.positions()
            return httpx.Response(200, json={name: pos_json(pos) for name, pos in positions.items()})
        if request.url.path == "/db/tx":
            mark = await self.memory.write(name, pieces(body))
            return httpx.Response(200, headers={"Litefs-Hwm": f"{mark:016x}"})
        async with self.memory.snapshot(name) as data:
            return httpx.Response(200, content=b"".join([piece async for piece in data]))
