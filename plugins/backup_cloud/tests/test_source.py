"""``litefs backup`` with a server of LiteFS Cloud's protocol: the real one, and ones that misbehave."""

from __future__ import annotations

import io
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import trio
import yaml
from click.testing import CliRunner
from litefs_backup_cloud.client import CloudClient
from litefs_backup_cloud.settings import CloudSettings
from litefs_backup_cloud.source import CloudSource
from litefs_backup_store.command import command

from litefs import ltx
from litefs.backup import BackupError, DatabaseRefused
from litefs.errors import LitefsError
from litefs.ltx import Header, Pos
from litefs.testing.backups import pieces
from tests.support.cloud import CloudServer, running_cloud


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudServer]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as found:
        yield found


def file_of(image: bytes, before: Pos, number: int) -> tuple[bytes, Pos]:
    """A transaction that writes a whole database; where it leads."""
    pages = [(at // 4096 + 1, image[at : at + 4096]) for at in range(0, len(image), 4096)]
    after = Pos(before.txid + 1, ltx.database_checksum([ltx.page_checksum(*page) for page in pages]))
    head = Header(4096, len(pages), after.txid, after.txid, ltx.FLAG_LZ4, 1_700_000_000_000 + 60_000 * number,
                  before.checksum, node_id=1)  # fmt: skip
    return ltx.encode(head, pages, after.checksum), after


def make_backup(server: CloudServer, token: str, images: list[bytes]) -> Pos:
    async def main() -> Pos:
        client = CloudClient(CloudSettings(server.url, token, ""), lambda: "LFSC0123456789ABCDEF")
        pos = Pos(0, 0)
        for number, image in enumerate(images):
            data, pos = file_of(image, pos, number)
            await client.write("app.db", pieces(data))
        await client.aclose()
        return pos

    return trio.run(main)


def test_the_command(server: CloudServer, tmp_path: Path) -> None:
    images = []
    with closing(sqlite3.connect(tmp_path / "db", isolation_level=None)) as db:
        db.execute("CREATE TABLE t (x)")
        for number in range(3):
            db.execute("INSERT INTO t VALUES (?)", (number,))
            images.append((tmp_path / "db").read_bytes())
    token = server.begin_test().token("one")
    pos = make_backup(server, token, images)
    config = tmp_path / "litefs.yml"
    backup = {"type": "litefs-cloud", "url": server.url, "auth-token": server.token("one", read_only=True)}
    lease = {"type": "static", "hostname": "a", "advertise-url": "http://a", "candidate": True}
    config.write_text(yaml.safe_dump({"fuse": {"dir": str(tmp_path)}, "lease": lease, "backup": backup}))

    def litefs(name: str, *arguments: str) -> str:
        done = CliRunner().invoke(command, [name, "-config", str(config), *arguments], catch_exceptions=False,
                                  standalone_mode=False)  # fmt: skip
        if done.exception is not None:
            raise done.exception
        return done.output

    assert json.loads(litefs("list", "-json")) == {
        "app.db": {"txid": f"{3:016x}", "checksum": f"{pos.checksum:016x}", "time": "2023-11-14T22:15:20.000Z",
                   "bytes": None}
    }  # fmt: skip
    assert "0000000000000003  2023-11-14T22:15:20.000Z" in litefs("list")
    assert "states from 2023-11-14T22:13:20.000Z to 2023-11-14T22:15:20.000Z" in litefs("list", "-db", "app.db")
    assert f"app.db: ok, {pos}" in litefs("verify")
    for at, image in (((), 2), (("-txid", "2"), 1), (("-time", "2023-11-14T22:13:59Z"), 0)):
        litefs("restore", "-db", "app.db", "-to", str(tmp_path / "copy"), *at)
        assert (tmp_path / "copy").read_bytes() == images[image]
    litefs("restore", "-to", str(tmp_path / "all"))
    assert (tmp_path / "all" / "app.db").read_bytes() == images[2]
    for arguments, words in (
        (("-db", "x.db"), "database not found"),
        (("-db", "app.db", "-txid", "9"), "no transaction"),
        (("-db", "app.db", "-time", "2020-01-01T00:00:00Z"), "nothing is kept"),
    ):
        with pytest.raises(LitefsError, match=words):
            litefs("restore", *arguments, "-to", str(tmp_path / "none"))
    config.write_text(config.read_text().replace(backup["auth-token"], "lfsc_wrong"))
    with pytest.raises(LitefsError, match="check LITEFS_CLOUD_TOKEN") as caught:
        litefs("list")
    assert "lfsc_wrong" not in str(caught.value)


def source(answers: dict[str, httpx.Response]) -> CloudSource:
    def answer(request: httpx.Request) -> httpx.Response:
        return answers.get(request.url.path, httpx.Response(404, json={"code": "ENODB", "error": "no such page"}))

    return CloudSource(CloudSettings("http://127.0.0.1:1", "secret", ""), transport=httpx.MockTransport(answer))


def test_servers_that_misbehave() -> None:
    data, pos = file_of(b"x" * 4096, Pos(0, 0), 0)
    told = {"app.db": {"TXID": f"{pos.txid:016x}", "PostApplyChecksum": f"{pos.checksum:016x}"}}
    positions = httpx.Response(200, json=told)
    good = source({"/pos": positions, "/db/snapshot": httpx.Response(200, content=data)})
    assert good.states("app.db").found[0].txid == 1  # without /db/info
    assert list(good.check("app.db", lambda _: None)) == []
    for content in (data[:-1], b"", bytes([*data[:-20], data[-20] ^ 1, *data[-19:]])):
        bad = source({"/pos": positions, "/db/snapshot": httpx.Response(200, content=content)})
        with pytest.raises(DatabaseRefused, match="is not whole"):
            bad.restore("app.db", io.BytesIO())
        assert len(list(bad.check("app.db", lambda _: None))) == 1
    other, _ = file_of(b"y" * 4096, Pos(0, 0), 0)
    wrong = source({"/pos": positions, "/db/snapshot": httpx.Response(200, content=other)})
    (problem,) = wrong.check("app.db", lambda _: None)
    assert f"instead of {pos}" in problem
    for response in (httpx.Response(200, content=b"[1]"), httpx.Response(500, content=b"the secret is out")):
        with pytest.raises(BackupError) as caught:
            source({"/pos": response}).databases()
        assert "secret" not in str(caught.value)
