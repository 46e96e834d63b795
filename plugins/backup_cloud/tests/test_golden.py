"""What real LiteFS sent to LiteFS Cloud, and what it was answered: our client sends the same and takes the same."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from litefs_backup_cloud.testing import Server

from litefs import ltx
from litefs.backup import BackupError, PositionConflict
from litefs.ltx import Pos
from litefs.testing.backups import pieces

FOLDER = Path(os.environ.get("LITEFS_GOLDEN", Path(__file__).parents[4] / "shared" / "golden")) / "backup"
CASES = sorted(path.parent.name for path in FOLDER.glob("*/exchanges.json"))

pytestmark = pytest.mark.skipif(not CASES, reason=f"no golden vectors in {FOLDER}")


def answer(exchange: dict[str, Any], folder: Path) -> httpx.Response:
    response = exchange["response"]
    stored = response.get("body_file")
    body = (folder / stored).read_bytes() if stored else response["body"].encode()
    return httpx.Response(response["status"], headers=response["headers"], content=body)


async def act(client: Any, request: dict[str, Any], folder: Path) -> Any:
    """Do what made LiteFS send the request."""
    name = request["query"].get("db")
    if request["path"] == "/pos":
        return await client.positions()
    if request["path"] == "/db/tx":
        return await client.write(name, pieces((folder / request["body_file"]).read_bytes()))
    async with client.snapshot(name) as data:
        return b"".join([piece async for piece in data])


@pytest.mark.parametrize("case", CASES)
def test_the_same_requests_and_answers(case: str) -> None:
    folder = FOLDER / case
    exchanges = json.loads((folder / "exchanges.json").read_text())["exchanges"]
    server = Server()
    headers = {key.lower(): value for key, value in exchanges[0]["request"]["headers"]}

    async def main() -> None:
        client = server.client(exchanges[0]["request"]["query"]["cluster"])
        client._instance = headers.get("fly-force-instance-id", "")
        for exchange in exchanges:
            server.forced = lambda request, exchange=exchange: answer(exchange, folder)  # type: ignore[misc]
            result: Any = None
            try:
                result = await act(client, exchange["request"], folder)
            except BackupError as error:
                result = error
            check(exchange, server.requests[-1], result, folder)

    trio.run(main)


def check(exchange: dict[str, Any], sent: httpx.Request, result: Any, folder: Path) -> None:
    recorded, response = exchange["request"], exchange["response"]
    assert (sent.method, sent.url.raw_path.decode()) == (recorded["method"], recorded["raw_target"])
    theirs = {key.lower() for key, _ in recorded["headers"]} - {"user-agent", "host", "accept-encoding"}
    assert theirs <= set(sent.headers)
    recorded_instance = dict(recorded["headers"]).get("Fly-Force-Instance-Id")
    assert sent.headers.get("fly-force-instance-id") == recorded_instance
    if "body_file" in recorded:
        assert sent.content == (folder / recorded["body_file"]).read_bytes()
    if response["status"] == 409:
        assert isinstance(result, PositionConflict)
        assert str(result.pos).startswith(json.loads(response["body"])["pos"]["TXID"])
    elif response["status"] != 200:
        assert str(response["status"]) in str(result)
    elif recorded["path"] == "/pos":
        assert {name: pos.txid for name, pos in result.items()} == {
            name: int(pos["TXID"], 16) for name, pos in json.loads(response["body"]).items()
        }
    elif recorded["path"] == "/db/tx":
        mark = response["headers"].get("Litefs-Hwm")
        assert result == int(mark, 16) if mark else "high-water mark" in str(result)
    else:
        head, trailer = ltx.verify(io.BytesIO(result))
        assert head.is_snapshot
        assert Pos(head.max_txid, trailer.post_apply).txid == int(response["ltx"]["max_txid"], 16)
