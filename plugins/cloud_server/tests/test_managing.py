"""The control plane: clusters, databases that are put there or deleted, what can be had, metrics."""

from __future__ import annotations

import socket
import sqlite3
import time
from contextlib import closing

import httpx

from litefs.testing import History
from tests.support.cloud import CloudServer


def api(server: CloudServer, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=server.url, headers=headers, trust_env=False, timeout=30)


def manager(server: CloudServer, *, read_only: bool = False) -> httpx.Client:
    return api(server, server.manager(read_only=read_only))


def write(client: httpx.Client, data: bytes, **query: str) -> httpx.Response:
    return client.post("/db/tx", params={"db": "app.db", **query}, content=data)


def image(rows: int, page_size: int = 4096) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(f"PRAGMA page_size={page_size}; CREATE TABLE t (x);")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{n:01000}",) for n in range(rows)])
        connection.commit()
        return connection.serialize()


def test_clusters_come_and_go(server: CloudServer) -> None:
    name = server.cluster("made")
    with manager(server) as client, manager(server, read_only=True) as reader:
        assert reader.post("/clusters", json={"cluster": name}).status_code == 403
        made = client.post("/clusters", json={"cluster": name, "region": "ord"}).json()
        assert made["name"] == name
        assert client.post("/clusters", json={"cluster": name}).json() == made
        listed = reader.get("/clusters", params={"limit": "1000"}).json()
        assert made in listed["clusters"]
        assert listed["total"] == len(listed["clusters"])
        assert client.get("/regions").json() == {"regions": [made["region"]]}
        token = server.token("made")
        history = History()
        with api(server, token) as node:
            assert node.post("/clusters", json={"cluster": "other"}).status_code == 403
            assert node.delete("/clusters", params={"cluster": name}).status_code == 403
            assert [each["name"] for each in node.get("/clusters").json()["clusters"]] == [name]
            assert write(node, history.commit({1: b"one"})).status_code == 200
            assert list(client.get("/pos", params={"cluster": name}).json()) == ["app.db"]
            assert client.delete("/clusters", params={"cluster": name}).status_code == 200
            assert node.get("/pos").status_code == 401
        assert client.get("/pos", params={"cluster": name}).status_code == 404
        assert client.delete("/clusters", params={"cluster": name}).status_code == 404
        assert not [path for path in (server.folder / "clusters" / name).rglob("*") if path.suffix in (".ltx", ".json")]
        with api(server, server.token("made")) as node:
            assert node.get("/pos").json() == {}


def test_a_token_for_all_clusters_names_one(server: CloudServer) -> None:
    with manager(server) as client:
        for query, status in (({}, 400), ({"cluster": "nobody"}, 404)):
            answer = client.get("/pos", params=query)
            assert (answer.status_code, answer.json()["code"]) == (status, "EBADCLUSTER")


def test_clusters_that_cannot_be(server: CloudServer) -> None:
    with manager(server) as client:
        for body in (b"", b"[]", b"{}", b'{"cluster": "../x"}', b'{"cluster": "*"}', b"x" * 5000):
            answer = client.post("/clusters", content=body)
            assert answer.status_code in (400, 413)
            assert answer.json()["error"]


def test_a_file_becomes_the_newest_state(server: CloudServer) -> None:
    one, two, other = image(20), image(300), image(5)
    with api(server, server.token("one")) as client, api(server, server.token("one", read_only=True)) as reader:
        for number, content in enumerate((one, two, other), 1):
            answer = client.post("/db/upload", params={"db": "new.db"}, content=content)
            assert answer.json() == {"txID": f"{number:016x}"}
        for number, content in enumerate((one, two, other), 1):
            query = {"db": "new.db", "format": "sqlite", "txid": f"{number:x}"}
            assert reader.get("/db/snapshot", params=query).content == content
        for content in (b"", b"no database", two[:-4096], image(5, 1024)):
            answer = client.post("/db/upload", params={"db": "new.db"}, content=content)
            assert (answer.status_code, answer.json()["code"]) == (400, "EBADFORMAT")
        assert reader.post("/db/upload", params={"db": "new.db"}, content=one).status_code == 403
        assert reader.get("/hwm").json() == {"new.db": f"{3:016x}"}


def test_what_can_be_had(server: CloudServer) -> None:
    history = History()
    history.timestamp = time.time_ns() // 1_000_000 - 10_000  # recent states are not merged
    with api(server, server.token("one")) as client:
        for number in range(4):
            write(client, history.commit({1: b"%d" % number}))
        found = client.get("/db/info", params={"db": "app.db"}).json()
        assert (found["name"], found["minTxId"], found["maxTxId"]) == ("app.db", f"{1:016x}", f"{4:016x}")
        query = {"db": "app.db", "timestamp": found["minTimestamp"]}
        assert client.get("/db/restore/check", params=query).json()["txID"] == f"{1:016x}"
        query = {"db": "app.db", "txid": "3"}
        checked = client.get("/db/restore/check", params=query).json()
        assert checked["txID"] == f"{3:016x}"
        assert found["minTimestamp"] < checked["timestamp"] < found["maxTimestamp"]
        for path in ("/db/info?db=no.db", "/db/restore/check?db=no.db&txid=1"):
            assert client.get(path).json()["code"] == "ENODB"
        assert client.get("/db/restore/check?db=app.db").json()["code"] == "EBADINPUT"


def test_a_database_is_deleted_with_its_past(server: CloudServer) -> None:
    cluster = server.cluster("one")
    with api(server, server.token("one")) as client, manager(server) as boss:
        history = History()
        for _ in range(3):
            write(client, history.commit({1: b"one"}))
        write(client, History().commit({1: b"other"}), db="other.db")
        assert client.delete("/db/", params={"db": "app.db"}).status_code == 403
        assert boss.delete("/db/", params={"db": "app.db", "cluster": cluster}).status_code == 200
        assert boss.delete("/db/", params={"db": "app.db", "cluster": cluster}).status_code == 404
        assert list(client.get("/pos").json()) == ["other.db"]
        assert not list((server.folder / "clusters" / cluster).rglob("ltx/app.db/**/*.ltx"))
        # The node, whose database it still is, sends it again.
        assert write(client, History().commit({1: b"again"})).status_code == 200


def test_a_client_that_falls_silent_holds_up_nobody(server: CloudServer) -> None:
    """A primary that died in the middle of an upload: the next one goes on."""
    token = server.token("one")
    history = History()
    with api(server, token) as client:
        write(client, history.commit({1: b"one"}))
        data = history.commit({1: b"two"})
        fields = [
            "POST /db/tx?db=app.db HTTP/1.1",
            "Host: x",
            f"Authorization: {token}",
            f"Content-Length: {len(data)}",
        ]
        head = "".join(f"{field}\r\n" for field in [*fields, ""])
        host, _, port = server.url.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as silent:
            silent.sendall(head.encode() + data[: len(data) // 2])
            assert write(client, data).headers["litefs-hwm"] == f"{2:016x}"
            # What it sends after all is not what follows now.
            silent.sendall(data[len(data) // 2 :])
            assert silent.recv(100).startswith(b"HTTP/1.1 409 ")


def test_metrics(server: CloudServer) -> None:
    one, two = server.cluster("one"), server.cluster("two")
    history = History()
    with api(server, server.token("one")) as client, api(server, server.token("two")) as neighbour:
        data = history.commit({1: b"one"})
        write(client, data)
        write(neighbour, History().commit({1: b"two"}), db='quo"te.db')
        text = client.get("/metrics").text
        assert f'litefs_cloud_db_txid{{cluster="{one}",db="app.db"}} 1.0' in text
        assert f'litefs_cloud_upload_bytes_total{{cluster="{one}"}} {float(len(data))}' in text
        assert 'litefs_cloud_requests_total{method="POST",path="/db/tx",status="200"}' in text
        assert "process_resident_memory_bytes" in text
        assert two not in text
    with manager(server, read_only=True) as client:
        text = client.get("/metrics").text
        assert f'cluster="{one}"' in text
        assert f'litefs_cloud_db_txid{{cluster="{two}",db="quo\\"te.db"}} 1.0' in text
    assert httpx.get(f"{server.url}/metrics", trust_env=False).status_code == 401
    assert httpx.get(f"{server.url}/readyz", trust_env=False).text == "ok\n"
