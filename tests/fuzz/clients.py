"""What commands and the proxy read: what nodes say of themselves, events, what clients of an application send."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest import mock

import httpx
import trio
from litefs_proxy_fly import cookies, forwarded, heads, positions, primaries
from litefs_proxy_fly.attributes import Attributes
from litefs_proxy_fly.upstream import Unreachable

from litefs.cli import api, events, safekeeping, status, subscription, survey
from litefs.cli.access import Access
from litefs.cluster.peers import PeerResponse
from litefs.errors import ConfigError, LitefsError
from litefs.leases import PrimaryInfo
from litefs.supervisor import words
from tests.fuzz.registry import said, target

MEMBER = {"id": "00000000000000AB", "hostname": "h", "advertiseURL": "http://h:1", "candidate": True}
STATUS: dict[str, Any] = {
    "id": "00000000000000CD", "hostname": "g", "advertiseURL": "http://g:1", "clusterID": "LFSC0123456789ABCDEF",
    "role": "primary", "candidate": True, "ready": True, "reason": "", "lagMs": 0, "leaseType": "consul",
    "proxyURL": "http://g:8080", "primary": {"hostname": "g", "advertiseURL": "http://g:1"},
    "databases": {"a.db": {"txid": "000000000000000a", "checksum": "8000000000000000", "pages": 2, "halted": True,
                           "failed": True}},
    "members": [MEMBER],
    "backup": {
        "type": "file", "url": "file:///b", "active": True, "lagTransactions": 2, "lagMs": 1500, "error": "",
        "lastUpload": "2026-01-01T00:00:00Z", "troubles": {"b.db": "refused"},
        "verification": {"time": "2026-01-01T00:00:00Z", "count": 1, "problems": ["p"]},
    },
}  # fmt: skip
INFO = {"clusterID": "", "isPrimary": True, "candidate": True, "path": "/x", "primary": {"hostname": "g"}}


class _Node(api.NodeAPI):
    """A node of which every request is answered with the same."""

    said = b""
    asked = 0

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        type(self).asked += 1
        if path == "/status" and b"isPrimary" in self.said:
            raise api.NotFound("")
        content = self.said.replace(b"//h:1", b"//h:%d" % (self.asked % 60_000 + 1))  # each knows of another one
        return httpx.Response(200, content=content, request=httpx.Request(method, self.url + path))


@target(b"\0", b"\0\x0b\x0c\x12\x04", json.dumps(STATUS).encode(), json.dumps(INFO).encode())
def node_status(data: bytes) -> None:
    """What nodes say of themselves, as `litefs status` shows it: nothing in it moves the cursor, and it ends."""
    _Node.said = said(STATUS, data)
    with mock.patch.object(survey, "NodeAPI", _Node), mock.patch.object(survey, "MOST", 5):
        try:
            nodes = survey.survey(Access("http://g:1"))
        except LitefsError:
            return
        with suppress(LitefsError):
            survey.resolve(Access("http://g:1"), "h")
    assert len(nodes) <= 5
    wrong = survey.problems(nodes)
    json.dumps(status.as_json(nodes, wrong))
    list(safekeeping.backup_warnings(nodes))
    assert all(line.isprintable() for line in status.report(nodes))


_TX = {"type": "tx", "db": "a.db", "data": {"txID": "0000000000000001", "postApplyChecksum": "8000", "commit": 2}}
_INIT = {"type": "init", "data": {"isPrimary": False, "hostname": "h"}}


@target(b"\0", b"".join(json.dumps(event).encode() + b"\n" for event in (_INIT, _TX)))
def event_stream(data: bytes) -> None:
    """A node's events, in pieces of some size."""
    size = data[0] + 1 if data else 1
    text = said(_TX, data) + b"\n" if data[:1] == b"\0" else data
    found = []
    for step in (size, len(text) or 1):
        node = subscription.EventStream(Access("http://h:1"))
        node._client = httpx.Client(
            base_url=node.url, transport=httpx.MockTransport(lambda _, n=step: _pieces(text, n))
        )
        lines: list[subscription.Line] = []
        with node, suppress(LitefsError):
            for line in node.events():
                lines.append(line)  # what came before the error counts
        found.append([line.text for line in lines])
    assert found[0] == found[1]
    for line in lines:
        events._wanted(line.event, {"tx"}, {"a.db"})
        assert events.describe(line.event).isprintable()


def _pieces(text: bytes, size: int) -> httpx.Response:
    def body() -> Iterator[bytes]:
        for at in range(0, len(text), size):
            yield text[at : at + size]

    return httpx.Response(200, content=body())


# --------------------------------------------------------------------------------------------------------------- proxy


class _Peers:
    def __init__(self, status: int, body: bytes) -> None:
        self._answer = PeerResponse(status, {}, body)

    async def request(self, *_: object, **__: object) -> PeerResponse:
        return self._answer


@target(b"\0", b"\0\x0b\x0b", json.dumps(STATUS).encode())
def neighbour_proxy(data: bytes) -> None:
    """Where another node says that its proxy is."""
    node = PrimaryInfo("g", "http://g:1")

    async def ask() -> None:
        for code in (200, 404):
            other = primaries.Neighbour(node, _Peers(code, said(STATUS, data)), 8080)  # type: ignore[arg-type]
            with suppress(Unreachable):
                await other.pool()

    trio.run(ask)


_SEEN = b"%b-%016x-%016x" % (positions.key("a.db"), 10, 1 << 63)


@target(b"x=y; __txid=000000000000000a; __txpos=" + _SEEN, b"__txpos=" + b".".join([_SEEN] * 16), b'__txid="0A"')
def seen_positions(data: bytes) -> None:
    """The cookies that a client brings back: positions that a node could have given it, or nothing."""
    known = positions.Positions(None, ["a.db", "b.db"], Attributes(), several=True)  # type: ignore[arg-type]
    found = known.seen([data])
    if found is None:
        return
    assert 0 <= found.txid < 1 << 64
    assert len(found.positions) <= positions.MOST
    for name, pos in found.positions:
        assert name in ("a.db", "b.db")
        assert 0 < pos.txid < 1 << 64
    assert cookies.value([data], positions.NAME) or not found.positions


_HEAD = b"GET /a HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\nforwarded: for=evil\r\nX_Real_IP: 6.6.6.6\r\n\r\n"


@target(_HEAD, b"GET http://x/ HTTP/1.0\r\nX-Forwarded-Host: y\r\nX-Forwarded-Proto: https\r\n\r\n")
def forwarded_headers(data: bytes) -> None:
    """Whom a request is said to be from: what a stranger says about it is gone, and it is still one request."""
    for trusted in (False, True):
        writer = forwarded.Forwarded(x=True, standard=True)
        try:
            request = heads.parse_request(data)
        except heads.BadRequest:
            return
        writer.rewrite(request, forwarded.Origin("2001:db8::1", trusted))
        again = heads.parse_request(request.head)
        assert (again.method, again.target, again.length) == (request.method, request.target, request.length)
        names = [line.partition(b":")[0].lower().replace(b"_", b"-") for line in request.head.split(b"\r\n")[1:]]
        assert names.count(b"forwarded") == names.count(b"x-forwarded-for") == 1
        assert trusted or b"x-real-ip" not in names


# ------------------------------------------------------------------------------------------------------ configuration


@target(b"sh -c 'a \\'\"b\"' c\\ d", b"a && b", b"''")
def command_line(data: bytes) -> None:
    """`exec`: what it is split into can be quoted and split again."""
    line = data.decode("utf-8", "surrogateescape")
    words.unwrap(line)
    with suppress(ConfigError):
        found = words.split(line)
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in found)
        assert words.split(quoted) == found
