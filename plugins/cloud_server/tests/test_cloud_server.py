"""The server as its clients see it: the protocol, tokens, and what a kill leaves."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from litefs import ltx
from litefs.ltx import Pos
from litefs.testing import BackupConformance, History
from tests.support.cloud import CloudServer

GOLDEN = Path(os.environ.get("LITEFS_GOLDEN", Path(__file__).parents[4] / "shared" / "golden")) / "backup"
CLUSTER_ID = "LFSC0123456789ABCDEF"


def api(server: CloudServer, token: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": token, **headers}, trust_env=False, timeout=30)


class TestConformance(BackupConformance):
    """By way of our own client."""

    long_history = 60

    @pytest.fixture(autouse=True)
    def _server(self, server: CloudServer) -> None:
        pytest.importorskip("litefs_backup_cloud")
        self.server = server

    def run_check(self, check: Callable[[], Awaitable[None]]) -> None:
        self.token = self.server.token("one")
        super().run_check(check)

    async def client(self) -> Any:
        from litefs_backup_cloud.client import CloudClient
        from litefs_backup_cloud.settings import CloudSettings

        return CloudClient(CloudSettings(self.server.url, self.token, ""), lambda: CLUSTER_ID)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        self.server.end(signal.SIGKILL)
        yield
        await trio.to_thread.run_sync(self.server.start)


def write(client: httpx.Client, data: bytes, name: str = "app.db") -> httpx.Response:
    return client.post("/db/tx", params={"db": name}, content=data)


def content(data: bytes) -> tuple[Pos, dict[int, bytes]]:
    decoder = ltx.Decoder(io.BytesIO(data))
    pages = {pgno: bytes(page) for pgno, page in decoder}
    return Pos(decoder.header.max_txid, decoder.trailer.post_apply), pages


def recent() -> History:
    """A database of these seconds: each of its states is kept for a minute, older ones would be merged at any time."""
    history = History()
    history.timestamp = time.time_ns() // 1_000_000 - 10_000
    return history


def test_points_in_time_and_restore(server: CloudServer) -> None:
    history, states = recent(), []
    with api(server, server.token("one"), **{"Litefs-Cluster-Id": CLUSTER_ID}) as client:
        for number in range(5):
            assert write(client, history.commit({1: b"%d" % number, number + 1: b"x"})).status_code == 200
            states.append((history.pos, history.timestamp, dict(history.pages)))
        for pos, timestamp, pages in states:
            query = {"db": "app.db", "txid": f"{pos.txid:016x}"}
            assert content(client.get("/db/snapshot", params=query).content) == (pos, pages)
            moment = datetime.fromtimestamp(timestamp / 1000, UTC).isoformat()
            query = {"db": "app.db", "timestamp": moment}
            assert content(client.get("/db/snapshot", params=query).content) == (pos, pages)
        pos, _, pages = states[1]
        answer = client.post("/db/restore", params={"db": "app.db", "txid": f"{pos.txid:x}"})
        assert answer.json() == {"txID": f"{6:016x}"}
        restored, found = content(client.get("/db/snapshot", params={"db": "app.db"}).content)
        assert (restored.txid, restored.checksum, found) == (6, pos.checksum, pages)
        # And undone, by going back to just before.
        client.post("/db/restore", params={"db": "app.db", "txid": "5"})
        assert content(client.get("/db/snapshot", params={"db": "app.db"}).content)[1] == states[-1][2]


def test_a_database_as_a_file(server: CloudServer, tmp_path: Path) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("CREATE TABLE t (x); INSERT INTO t VALUES (1);")
        image = connection.serialize()
    history = History(4096)
    pages = {n + 1: image[n * 4096 : (n + 1) * 4096] for n in range(len(image) // 4096)}
    with api(server, server.token("one")) as client:
        write(client, history.commit(pages))
        answer = client.get("/db/snapshot", params={"db": "app.db", "format": "sqlite"})
    assert answer.content == image


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/db/snapshot?db=nothing.db", 404, "ENODB"),
        ("GET", "/db/snapshot?db=app.db&txid=x", 400, "EBADINPUT"),
        ("GET", "/db/snapshot?db=app.db&timestamp=noon", 400, "EBADINPUT"),
        ("GET", "/db/snapshot?db=app.db&timestamp=2001-01-01T00:00:00Z", 404, "ENOTIMESTAMP"),
        ("GET", "/db/snapshot?db=app.db&format=zip", 400, "EBADFORMAT"),
        ("GET", "/db/snapshot", 400, "EBADDB"),
        ("GET", "/db/snapshot?db=../x", 400, "EBADDB"),
        ("POST", "/db/restore?db=app.db", 400, "EBADINPUT"),
        ("POST", "/db/tx?db=app.db", 400, "EBADCHECKSUM"),
        ("GET", "/pos?cluster=other", 401, "EINVALIDAUTH"),
    ],
)
def test_refusals(server: CloudServer, method: str, path: str, status: int, code: str) -> None:
    with api(server, server.token("one")) as client:
        write(client, History().commit({1: b"one"}))
        answer = client.request(method, path, content=b"no LTX file" if method == "POST" else None)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.json()["error"]


def test_position_mismatch(server: CloudServer) -> None:
    history = History()
    with api(server, server.token("one")) as client:
        write(client, history.commit({1: b"one"}))
        stored = history.pos
        history.commit({1: b"two"})
        answer = write(client, history.commit({1: b"three"}))
    assert answer.status_code == 409
    assert answer.json()["code"] == "EPOSMISMATCH"
    assert answer.json()["pos"]["TXID"] == f"{stored.txid:016x}"


def test_tokens(server: CloudServer) -> None:
    token = server.litefs("token", "create", "-cluster", server.cluster("one")).strip()
    reader = server.litefs("token", "create", "-cluster", server.cluster("one"), "-read-only").strip()
    manager = server.litefs("token", "create", "-all").strip()
    for bad in ("", "x", token[:-1] + ("A" if token[-1] != "A" else "B"), "lfsc_000000000000_" + "A" * 43):
        with api(server, bad) as client:
            assert client.get("/pos").status_code == 401
    for good in (token, f"FlyV1 {token}", f"Bearer {token}", reader):
        with api(server, good) as client:
            assert client.get("/pos").json() == {}
    with api(server, reader) as client:
        assert write(client, History().commit({1: b"one"})).status_code == 403
        assert client.post("/db/restore", params={"db": "a", "txid": "1"}).status_code == 403
    secret = token.rpartition("_")[2]
    kept = b"".join(path.read_bytes() for path in server.folder.rglob("*") if path.is_file())
    assert secret.encode() not in kept
    assert secret not in server.log.read_text()
    listed = [line.split() for line in server.litefs("token", "list").splitlines()]
    mine = [words for words in listed if words[1] == server.cluster("one")]
    assert [words[2] for words in mine] == ["read,", "read"]
    server.litefs("token", "revoke", mine[0][0])
    with api(server, token) as client:
        assert client.get("/pos").status_code == 401
    assert ["*", "read,", "write,", "manage"] in [words[1:5] for words in listed]
    with api(server, manager) as client:
        assert client.get("/pos", params={"cluster": server.cluster("one")}).status_code == 200
    with api(server, server.litefs("auth", "token").strip()) as client:
        assert [each["name"] for each in client.get("/clusters").json()["clusters"]] == ["litefs"]


def test_clusters_are_apart(server: CloudServer) -> None:
    with api(server, server.token("one")) as one, api(server, server.token("two")) as two:
        write(one, History().commit({1: b"one"}))
        assert list(one.get("/pos").json()) == ["app.db"]
        assert two.get("/pos").json() == {}


def test_a_cluster_of_another_id_is_refused(server: CloudServer) -> None:
    token = server.token("one")
    with api(server, token, **{"Litefs-Cluster-Id": CLUSTER_ID}) as client:
        assert client.get("/pos").status_code == 200
    with api(server, token, **{"Litefs-Cluster-Id": "LFSCFFFFFFFFFFFFFFFF"}) as client:
        answer = client.get("/pos")
    assert answer.status_code == 422
    assert answer.json()["error"] == f'cluster id mismatch, expecting "{CLUSTER_ID}"'


def test_killed_and_started_again(server: CloudServer) -> None:
    history = History()
    with api(server, server.token("one")) as client:
        for number in range(6):
            answer = write(client, history.commit({1: b"%d" % number}))
            assert answer.headers["litefs-hwm"] == f"{history.pos.txid:016x}"
            if number % 2:
                server.end(signal.SIGKILL)
                server.start()
        assert content(client.get("/db/snapshot", params={"db": "app.db"}).content) == (history.pos, history.pages)
    assert server.end() == 0
    server.start()


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors in {GOLDEN}")
def test_what_real_litefs_sent(server: CloudServer) -> None:
    folder = GOLDEN / "1-upload"
    with api(server, server.token("mycluster")) as client:
        for exchange in json.loads((folder / "exchanges.json").read_text())["exchanges"]:
            request, expected = exchange["request"], exchange["response"]
            sent = {key: value for key, value in request["headers"] if key.lower() not in ("host", "authorization")}
            sent.pop("Transfer-Encoding", None)
            body = (folder / request["body_file"]).read_bytes() if "body_file" in request else b""
            target = request["raw_target"].replace("cluster=mycluster", f"cluster={server.cluster('mycluster')}")
            answer = client.request(request["method"], target, headers=sent, content=iter([body]) if body else None)
            assert answer.status_code == expected["status"]
            assert answer.headers.get("litefs-hwm") == expected["headers"].get("Litefs-Hwm")
            assert answer.headers["lfsc-instance-id"]
        final = client.get("/pos", params={"cluster": server.cluster("mycluster")}).json()
    assert {name: pos["TXID"] for name, pos in final.items()} == {"app.db": f"{9:016x}", "gone.db": f"{2:016x}"}
