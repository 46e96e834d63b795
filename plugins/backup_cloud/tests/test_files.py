"""The directory of LTX files: conformance, LiteFS's own, and what a process leaves that is killed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from litefs_backup_cloud.files import FileClient

from litefs.backup import BackupError, DatabaseRefused
from litefs.ltx import Pos
from litefs.testing import BackupConformance, History
from litefs.testing.backups import pieces

GOLDEN = Path(os.environ.get("LITEFS_GOLDEN", Path(__file__).parents[4] / "shared" / "golden")) / "backup" / "file"


class TestConformance(BackupConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "backup"

    async def client(self) -> FileClient:
        return FileClient(self.folder)

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        away = self.folder.with_name("away")
        self.folder.rename(away)
        self.folder.write_text("not a directory")
        yield
        self.folder.unlink()
        away.rename(self.folder)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors in {GOLDEN}")
def test_a_directory_that_litefs_wrote(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN, tmp_path / "backup")

    async def main() -> None:
        client = FileClient(tmp_path / "backup")
        (found,) = (await client.positions()).values()
        assert found == Pos.parse("0000000000000006/ff65ae297e98383a")
        async with client.snapshot("app.db") as data:
            assert len([piece async for piece in data]) > 0

    trio.run(main)


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    history = History()

    async def main() -> None:
        client = FileClient(tmp_path)
        await client.write("app.db", pieces(history.commit({1: b"one"})))
        old, young = tmp_path / "app.db" / ".1-0.tmp", tmp_path / "app.db" / ".2-0.tmp"
        old.write_bytes(b"half")
        young.write_bytes(b"half")
        os.utime(old, (time.time() - 7200,) * 2)
        assert await client.positions() == {"app.db": history.pos}
        await client.write("app.db", pieces(history.commit({1: b"two"})))
        assert [path.name for path in (tmp_path / "app.db").glob(".*")] == [".2-0.tmp"]

    trio.run(main)


def test_a_damaged_file_is_noticed_when_it_is_read(tmp_path: Path) -> None:
    history = History()

    async def main() -> None:
        client = FileClient(tmp_path)
        await client.write("app.db", pieces(history.commit({1: b"one"})))
        await client.write("app.db", pieces(history.commit({1: b"two"})))
        path = min((tmp_path / "app.db").iterdir())
        data = path.read_bytes()
        path.write_bytes(data.replace(b"one", b"ONE"))
        with pytest.raises(DatabaseRefused, match=r"0000000000000001-0000000000000001\.ltx"):
            async with client.snapshot("app.db") as content:
                _ = [piece async for piece in content]

    trio.run(main)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def main() -> None:
        with pytest.raises(BackupError, match="Not a directory"):
            await FileClient(tmp_path / "file" / "x").positions()

    trio.run(main)
