"""The client of LiteFS Cloud's protocol: conformance, headers, and what becomes of errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import trio
from litefs_backup_cloud.client import CloudClient
from litefs_backup_cloud.testing import CLUSTER_ID, TOKEN, Server

from litefs.backup import BackupError, DatabaseRefused
from litefs.ltx import Pos
from litefs.testing import BackupConformance, History
from litefs.testing.backups import pieces


class TestConformance(BackupConformance):
    long_history = 60

    def run_check(self, check: Callable[[], Awaitable[None]]) -> None:
        self.server = Server()
        super().run_check(check)

    async def client(self) -> CloudClient:
        return self.server.client()

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        def unreachable(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused")

        self.server.forced = unreachable
        yield
        self.server.forced = lambda request: None


def refused(status: int, body: str | bytes, *, write: bool = False, **options: Any) -> BackupError:
    """The error that an answer leads to."""
    server = Server()
    server.forced = lambda request: httpx.Response(status, content=body, **options)

    async def main() -> BackupError:
        client = server.client()
        with pytest.raises(BackupError) as caught:
            await (client.write("app.db", pieces(History().commit({1: b"one"}))) if write else client.positions())
        return caught.value

    return trio.run(main)


def test_headers() -> None:
    server = Server()

    async def main() -> None:
        client = server.client("my-cluster")
        server.forced = lambda request: httpx.Response(200, json={}, headers={"Lfsc-Instance-Id": "one"})
        await client.positions()
        await client.positions()
        server.forced = lambda request: httpx.Response(503)
        with pytest.raises(BackupError):
            await client.positions()
        server.forced = lambda request: None
        await client.write("app.db", pieces(History().commit({1: b"one"})))

    trio.run(main)
    for request in server.requests:
        assert request.headers["authorization"] == TOKEN
        assert request.headers["litefs-cluster-id"] == CLUSTER_ID
        assert request.url.params["cluster"] == "my-cluster"
    assert [r.headers.get("fly-force-instance-id") for r in server.requests] == [None, "one", "one", None]
    assert server.requests[-1].headers["transfer-encoding"] == "chunked"


def test_error_in_json_and_in_other_forms() -> None:
    assert str(refused(500, '{"code": "EINTERNAL", "error": "broke"}')) == "backup client error (500): broke"
    assert str(refused(503, "<h1>down</h1>")) == "backup client error (503): <h1>down</h1>"
    assert str(refused(500, '["list"]')) == 'backup client error (500): ["list"]'
    assert len(str(refused(500, "x" * 1_000_000))) < 70_000


def test_a_refused_token_says_what_to_check_and_is_not_shown() -> None:
    error = refused(401, f'{{"code": "EINVALIDAUTH", "error": "bad token {TOKEN}"}}')
    assert str(error).startswith("backup client error (401): bad token ****")
    assert "LITEFS_CLOUD_TOKEN" in str(error)
    assert "secret-token" not in str(error)
    assert "secret-token" not in repr(Server().client()._settings)


def test_errors_about_one_database_are_told_apart() -> None:
    bad = '{"code": "EBADDB", "error": "bad name"}'
    assert isinstance(refused(400, bad, write=True), DatabaseRefused)
    assert not isinstance(refused(400, bad), DatabaseRefused)
    assert not isinstance(refused(401, bad, write=True), DatabaseRefused)


@pytest.mark.parametrize("body", ["", "[1]", '{"db": 3}', '{"db": {"TXID": "zz"}}', "nonsense"])
def test_a_map_that_is_none(body: str) -> None:
    assert "no map of positions" in str(refused(200, body))


def test_keys_in_any_case_and_null() -> None:
    server = Server()
    body = '{"a": {"txid": "000000000000000A", "postApplyChecksum": "8000000000000001"}, "b": {"TXID": null}}'
    server.forced = lambda request: httpx.Response(200, content=body)
    assert trio.run(server.client().positions) == {"a": Pos(10, 1 << 63 | 1), "b": Pos(0, 0)}


def test_an_upload_needs_a_high_water_mark() -> None:
    assert str(refused(200, "", write=True)) == 'cannot parse high-water mark: ""'


def test_a_server_that_is_not_there() -> None:
    server = Server()

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError(f"cannot connect with {TOKEN}")

    server.forced = refuse

    async def main() -> str:
        with pytest.raises(BackupError) as caught:
            await server.client().positions()
        return str(caught.value)

    assert trio.run(main) == "http://127.0.0.1:1 does not answer: cannot connect with ********"
