"""What others answer: other nodes, Consul, a server of LiteFS Cloud's protocol, an object storage."""

from __future__ import annotations

import atexit
import base64
import functools
import io
import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpx
import trio
import trio.testing
from litefs_backup_cloud.settings import CloudSettings
from litefs_backup_cloud.source import CloudSource
from litefs_lease_consul.client import Agent
from litefs_lease_consul.connection import Connection
from litefs_lease_consul.endpoint import Endpoint
from litefs_lease_consul.keys import Keys
from litefs_lease_consul.leaser import ConsulLeaser

from litefs import ltx
from litefs.backup import BackupError
from litefs.cluster import remote
from litefs.cluster.election import Election, Standing
from litefs.cluster.peers import PeerResponse
from litefs.errors import LeaseError, StreamError
from litefs.ltx import Pos
from litefs.replication import wire
from litefs.replication.frames import MAX_TERM
from litefs.testing.backups import History
from tests.fuzz.registry import quiet, said, target

# ---------------------------------------------------------------------------------------------------------- other nodes

CLUSTER = "LFSC0123456789ABCDEF"
STANDING = {
    "id": "00000000000000AB", "clusterID": CLUSTER, "hostname": "h", "term": 5, "transactions": 9, "eligible": True
}  # fmt: skip


@target(b"\0", json.dumps(STANDING).encode())
def other_standing(data: bytes) -> None:
    """What another candidate says that it has, before this node takes the lease."""
    this = SimpleNamespace(_node="00000000000000CD", _store=SimpleNamespace(cluster_id=CLUSTER))
    try:
        found = Election._standing(this, said(STANDING, data))  # type: ignore[arg-type]
    except (ValueError, KeyError, TypeError):
        return
    if found is None:
        return
    own = Standing("", 5, 9, True)
    assert 0 <= found.term <= MAX_TERM
    assert 0 <= found.transactions < 1 << 96
    assert not (found.outranks(own) and own.outranks(found))
    assert found.surplus(own).isascii()


HALT = {"id": 1, "pos": {"TXID": "000000000000000a", "PostApplyChecksum": "8000000000000001"}}


@target(b"\0", json.dumps(HALT).encode(), b'{"pos":null}')
def halt_answer(data: bytes) -> None:
    """Where a primary says that a database is which it has halted for this node."""
    with suppress(OSError):
        pos = remote._position(PeerResponse(200, {}, said(HALT, data)))
        assert Pos.parse(str(pos)) == pos


class Answering:
    """A port of which every connection gets the same bytes, whatever it asks, and is closed."""

    def __init__(self) -> None:
        self.answer = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        atexit.register(self._socket.close)

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.settimeout(2)
                client.recv(65536)
                client.sendall(self.answer)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):
                    pass


@functools.cache
def answering() -> Answering:
    """One for the rest of the process."""
    return Answering()


def _h2_answer(body: bytes = b"ok", **settings: int) -> bytes:
    """What a server of HTTP/2 sends in answer to the first request of a connection."""
    import h2.config
    import h2.connection

    client = h2.connection.H2Connection()
    client.initiate_connection()
    client.send_headers(1, [(":method", "POST"), (":path", "/"), (":scheme", "http"), (":authority", "h")])
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200"), ("litefs-id", "00000000000000AB")])
    server.send_data(1, body, end_stream=True)
    return server.data_to_send()


@target(_h2_answer(), _h2_answer(b"x" * 5000), b"HTTP/1.1 400 Bad Request\r\n\r\n")
def answer_over_http2(data: bytes) -> None:
    """What a node of LiteFS answers."""
    server = answering()
    server.answer = data

    async def ask() -> None:
        with trio.fail_after(10), suppress(StreamError):
            async with wire.post_http2(f"http://127.0.0.1:{server.port}", "/", b"x", {}, patience=3.0) as response:
                while await response.receive():
                    pass

    trio.run(ask)


# --------------------------------------------------------------------------------------------------------------- Consul

SESSION = "adf4238a-882b-9ddc-4a9d-5b6758e4159e"
ENTRY = [
    {
        "LockIndex": 1, "Key": "litefs/primary", "Flags": 0, "Session": SESSION, "CreateIndex": 1, "ModifyIndex": 9,
        "Value": base64.b64encode(b'{"hostname":"h","advertise-url":"http://h:1"}').decode(),
    }
]  # fmt: skip
ANSWERS: list[Any] = [ENTRY, {"ID": SESSION}, [{"ID": SESSION, "TTL": "10s"}], True, False]


@functools.cache
def _agent() -> Agent:
    return Agent(Endpoint("http", "127.0.0.1", 1))


@target(
    *(bytes([which]) + b"\0" for which in range(len(ANSWERS))),
    *(bytes([which]) + json.dumps(content).encode() for which, content in enumerate(ANSWERS)),
    b"\x00null", b"\x01{}", b"\x00" + b"\0\x00\x14", b"\x80no",
)  # fmt: skip
def consul_answers(data: bytes) -> None:
    """One of Consul's answers is anything, the others are right: a lease, or a LeaseError within a bounded time."""
    odd = data[0] & 0x7F if data else 0
    right = ANSWERS[odd % len(ANSWERS)]
    text, refused = said(right, data[1:]), bool(data) and data[0] >= 0x80
    locked: list[bool] = []

    def handle(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        which = 1 if path.endswith("/create") else 2 if "/renew/" in path else 0 if request.method == "GET" else 3
        locked.append("acquire" in request.url.params)
        if not which and odd % len(ANSWERS) and not any(locked):
            return httpx.Response(404, headers={"X-Consul-Index": "8"})
        content = text if which == odd % len(ANSWERS) else json.dumps(ANSWERS[which]).encode()
        status = 500 if refused and which == odd % len(ANSWERS) else 200
        return httpx.Response(status, content=content, headers={"X-Consul-Index": "9"})

    endpoint = Endpoint("http", "127.0.0.1", 1)

    async def ask() -> None:
        agent, connection = _agent(), Connection(endpoint)
        agent.http._client = httpx.AsyncClient(transport=httpx.MockTransport(handle))
        connection._agent = agent
        leaser = ConsulLeaser(connection, Keys("litefs/primary"), "h", "http://h:1")
        with trio.fail_after(600):
            with suppress(LeaseError):
                await leaser.primary()
            with suppress(LeaseError):
                lease = await leaser.acquire()
                assert isinstance(lease.id, str)
                await lease.renew()
            with suppress(LeaseError):
                lease = await leaser.acquire_existing(SESSION)
                assert 0 < lease.ttl <= 10
                await lease.release()
            with suppress(LeaseError):
                assert isinstance(await leaser.cluster_id(), str | None)
            with suppress(LeaseError):
                await leaser.set_cluster_id(CLUSTER)
            with trio.move_on_after(5), suppress(LeaseError):
                await leaser.wait_change()
        await leaser.aclose()

    trio.run(ask, clock=trio.testing.MockClock(autojump_threshold=0))


# -------------------------------------------------------------------------------------------------------------- backups

_HISTORY = History()
_SNAPSHOT = _HISTORY.commit({1: b"one", 2: b"two"})
_POSITIONS = {"a.db": {"TXID": "0000000000000001", "PostApplyChecksum": f"{_HISTORY.pos.checksum:016x}"}}
_INFO = {
    "name": "a.db", "minTimestamp": "2026-01-01T00:00:00.000Z", "minTxId": "0000000000000001",
    "maxTimestamp": "2026-01-02T00:00:00.000Z", "maxTxId": "0000000000000001",
}  # fmt: skip


@target(
    b"\0\0", b"\1\0", b"\2" + _SNAPSHOT, b"\0" + json.dumps(_POSITIONS).encode(), b"\1" + json.dumps(_INFO).encode()
)
def restored_from_cloud(data: bytes) -> None:
    """What `litefs backup` reads from a server: a snapshot that is whole, or an error."""
    odd = data[0] % 3 if data else 0

    def handle(request: httpx.Request) -> httpx.Response:
        which = {"/pos": 0, "/db/info": 1}.get(request.url.path, 2)
        right = (_POSITIONS, _INFO)[which] if which < 2 else None
        content = said(right, data[1:]) if which == odd and which < 2 else data[1:] if which == odd else b""
        return httpx.Response(
            200, content=content if which == odd else json.dumps(right).encode() if right else _SNAPSHOT
        )

    source = CloudSource(CloudSettings("http://127.0.0.1:1", "", ""), transport=httpx.MockTransport(handle))
    calls: list[Callable[[], object]] = [source.databases, lambda: source.states("a.db")]
    calls.append(lambda: list(source.check("a.db", lambda _: None)))
    for call in calls:
        with suppress(BackupError):
            call()
    output = io.BytesIO()
    with suppress(BackupError):
        source.restore("a.db", output)
        output.seek(0)
        assert ltx.verify(output)[0].is_snapshot
    source.close()


@target(
    b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: "1"\r\nLast-Modified: Wed, 21 Oct 2026 07:28:00 GMT\r\n\r\nok',
    b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\n\r\n<ListBucketResult><Name>b</Name>"
    b"<IsTruncated>false</IsTruncated><Contents><Key>p/ltx/a</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    b'<ETag>"1"</ETag><Size>5</Size></Contents></ListBucketResult>',
    b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<Error><Code>AccessDenied</Code><Message>no</Message></Error>",
    b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n",
)
def s3_answer(data: bytes) -> None:
    """What an object storage answers, or something that only says to be one."""
    from litefs_backup_s3.objects import RETRIES, S3Objects

    if data[9:10] == b"5" or not data.startswith(b"HTTP/1.1 "):  # tried again, for seconds
        data = b"HTTP/1.1 200" + data[12:]
    server = answering()
    server.answer = data
    section = {
        "endpoint": f"http://127.0.0.1:{server.port}",
        "region": "r",
        "access-key-id": "a",
        "secret-access-key": "b",
    }
    objects = S3Objects("s3://b/p", section)
    calls: list[Callable[[], object]] = [
        lambda: objects.get("k"),
        lambda: objects.replace("k", b"x", None),
        lambda: list(objects.list("ltx/")),
        lambda: objects.delete(["k"]),
        lambda: objects.copy("k", "l"),
    ]
    with quiet(), mock.patch.dict(RETRIES, max_retries=0):
        for call in calls:
            with suppress(BackupError):
                call()
    objects.close()
