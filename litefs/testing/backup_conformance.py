"""What every backup has to do, as tests that its author runs; see `litefs.testing.suite` for how.

class TestMyBackup(BackupConformance):
    async def client(self):                 # all clients of one check share one backup, which starts empty
        return MyClient(self.folder)
"""

from __future__ import annotations

import io
import unittest
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

import trio

from litefs import ltx
from litefs.backup import BackupClient, BackupError, DatabaseRefused, PositionConflict
from litefs.ltx import EMPTY, Pos
from litefs.testing.backups import History, pieces
from litefs.testing.suite import Suite

E = TypeVar("E", bound=Exception)


class Interrupted(Exception):
    """The file that was being handed over cannot be completed."""


class BackupConformance(Suite):
    """The suite.  Override `client`, and `outage` where the backup can be made unreachable.

    Attributes:
        limit: seconds that one check may take.
        long_history: transactions of the longest history.
        fences: of two nodes that believe to be primary, the backup takes files of the later one only.
    """

    limit = 120.0
    long_history = 300
    fences = False

    # ---------------------------------------------------------------------------------------- what authors override

    async def client(self) -> BackupClient:
        """A new client; all clients of one check share one backup, which starts empty."""
        raise NotImplementedError

    def outage(self) -> AbstractAsyncContextManager[None]:
        """A context in which the backup cannot be reached."""
        raise unittest.SkipTest("this suite cannot make the backup unreachable")

    # ------------------------------------------------------------------------------------------------------ checks

    async def check_starts_empty(self) -> None:
        """Nothing is there at first, and it has a name that can be shown."""
        async with self._open() as backup:
            assert await backup.positions() == {}
            assert backup.url

    async def check_first_file(self) -> None:
        """A snapshot begins a database; its position and content come back."""
        history = History()
        async with self._open() as backup:
            mark = await backup.write("app.db", pieces(history.commit({1: b"one", 2: b"two"})))
            assert mark <= 1
            assert await backup.positions() == {"app.db": history.pos}
            await _check_content(backup, "app.db", history)

    async def check_snapshot_of_many(self) -> None:
        """The first file may be of any number of transactions."""
        history = History()
        for number in range(5):
            history.commit({number + 1: b"%d" % number})
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.snapshot()))
            await backup.write("app.db", pieces(history.commit({2: b"changed"})))
            assert (await backup.positions())["app.db"] == history.pos
            await _check_content(backup, "app.db", history)

    async def check_long_history(self) -> None:
        """Hundreds of transactions, some of which cut the database."""
        history = History()
        async with self._open() as backup:
            for number in range(self.long_history):
                size = 3 if number % 50 == 49 else None
                changes = {1: b"%d" % number} if size else {1: b"%d" % number, len(history.pages) + 1: b"new"}
                mark = await backup.write("app.db", pieces(history.commit(changes, size=size)))
                assert mark <= history.pos.txid
            assert (await backup.positions())["app.db"] == history.pos
            await _check_content(backup, "app.db", history)

    async def check_other_client_sees_it(self) -> None:
        """What one node has stored the next one finds, and continues."""
        history = History()
        async with self._open() as one:
            await one.write("app.db", pieces(history.commit({1: b"one"})))
        async with self._open() as two:
            assert await two.positions() == {"app.db": history.pos}
            await two.write("app.db", pieces(history.commit({1: b"two"})))
            assert await two.positions() == {"app.db": history.pos}
            await _check_content(two, "app.db", history)

    async def check_two_at_once(self) -> None:
        """Of two nodes that both believe to be primary, one is told that the other was faster."""
        history, other = History(), History()
        async with self._open() as one, self._open() as two:
            await one.positions()
            first = history.commit({1: b"one"})
            await one.write("app.db", pieces(first))
            assert await two.positions() == {"app.db": history.pos}
            other.commit({1: b"one"})
            await two.write("app.db", pieces(other.commit({2: b"two's"})))
            await _refused(one, "app.db", history.commit({2: b"one's"}), BackupError)
            await two.write("app.db", pieces(other.commit({1: b"on"})))
            await _check_content(two, "app.db", other)

    async def check_former_writer_is_refused(self) -> None:
        """A node that was primary before cannot add to the backup, even where its file would follow."""
        if not self.fences:
            raise unittest.SkipTest("the backup does not tell its writers apart")
        history = History()
        async with self._open() as one, self._open() as two:
            await one.positions()
            await one.write("app.db", pieces(history.commit({1: b"one"})))
            assert await two.positions() == {"app.db": history.pos}
            late = history.pos
            file = history.commit({1: b"late"})
            await _refused(one, "app.db", file, BackupError)
            assert await two.positions() == {"app.db": late}
            await two.write("app.db", pieces(file))

    async def check_gap_is_refused(self) -> None:
        """A file that does not follow is refused with the position to follow; nothing changes."""
        history = History()
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({1: b"one"})))
            stored = history.pos
            history.commit({1: b"two"})
            conflict = await _refused(backup, "app.db", history.commit({1: b"three"}), PositionConflict)
            assert conflict.pos == stored
            assert await backup.positions() == {"app.db": stored}

    async def check_other_history_is_refused(self) -> None:
        """A file with the right TXID that builds upon another state is refused."""
        history, other = History(), History()
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({1: b"one"})))
            other.commit({1: b"another"})
            conflict = await _refused(backup, "app.db", other.commit({2: b"two"}), PositionConflict)
            assert conflict.pos == history.pos
            await _check_content(backup, "app.db", history)

    async def check_snapshot_over_history_is_refused(self) -> None:
        """A snapshot replaces nothing."""
        history, other = History(), History()
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({1: b"one"})))
            other.commit({1: b"another"})
            conflict = await _refused(backup, "app.db", other.snapshot(), PositionConflict)
            assert conflict.pos == history.pos
            await _check_content(backup, "app.db", history)

    async def check_increment_of_nothing_is_refused(self) -> None:
        """A database begins with a snapshot."""
        history = History()
        history.commit({1: b"one"})
        async with self._open() as backup:
            conflict = await _refused(backup, "app.db", history.commit({1: b"two"}), PositionConflict)
            assert conflict.pos == Pos(0, 0)
            assert await backup.positions() == {}

    async def check_damage_is_refused(self) -> None:
        """A file with a flipped bit, or without its end, is not stored."""
        history = History()
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({1: b"one"})))
            stored = history.pos
            file = history.commit({1: b"two"})
            flipped = file[:-20] + bytes([file[-20] ^ 1]) + file[-19:]
            for bad in (flipped, file[:-1], b""):
                await _refused(backup, "app.db", bad, BackupError)
            assert await backup.positions() == {"app.db": stored}
            await backup.write("app.db", pieces(file))
            await _check_content(backup, "app.db", history)

    async def check_interrupted_upload(self) -> None:
        """A file that ends early, because its source failed or the call was cancelled, leaves nothing behind."""
        history = History(4096)
        file = history.commit({pgno: bytes([pgno]) * 4096 for pgno in range(1, 60)})
        async with self._open() as backup:
            try:
                await backup.write("app.db", _failing(file))
            except Interrupted:
                pass
            else:
                raise AssertionError("the failure of the source was swallowed")
            with trio.CancelScope() as scope:
                await backup.write("app.db", _cancelling(file, scope))
            assert scope.cancelled_caught
            assert await backup.positions() == {}
            await backup.write("app.db", pieces(file))
            await _check_content(backup, "app.db", history)

    async def check_deletion(self) -> None:
        """A deleted database stays, without pages, and is continued when it is made anew."""
        history = History()
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({1: b"one", 2: b"two"})))
            await backup.write("app.db", pieces(history.delete()))
            assert await backup.positions() == {"app.db": Pos(2, EMPTY)}
            await _check_content(backup, "app.db", history)
            await backup.write("app.db", pieces(history.commit({1: b"again"})))
            assert await backup.positions() == {"app.db": history.pos}
            await _check_content(backup, "app.db", history)

    async def check_other_page_size(self) -> None:
        """An import may change the page size; nothing of what was there before is left."""
        history = History(512)
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({n: b"%d" % n for n in range(1, 9)})))
            await backup.write("app.db", pieces(history.commit({1: b"one", 2: b"two"}, page_size=1024)))
            await _check_content(backup, "app.db", history)
            await backup.write("app.db", pieces(history.commit({2: b"changed"})))
            await _check_content(backup, "app.db", history)

    async def check_several_databases(self) -> None:
        """Databases do not get in each other's way, whatever they are called."""
        histories = {name: History() for name in ("a", "a.db", "A.db", "b c.db", "d%2Fe", "ü.db", "x" * 200)}
        async with self._open() as backup:
            for name, history in histories.items():
                await backup.write(name, pieces(history.commit({1: name.encode()})))
            for name, history in histories.items():
                await backup.write(name, pieces(history.commit({2: name.encode()})))
            assert await backup.positions() == {name: history.pos for name, history in histories.items()}
            for name, history in histories.items():
                await _check_content(backup, name, history)

    async def check_unknown_database(self) -> None:
        """There is no snapshot of what is not there."""
        async with self._open() as backup:
            try:
                async with backup.snapshot("nothing.db") as data:
                    _ = [piece async for piece in data]
            except DatabaseRefused:
                return
        raise AssertionError("a snapshot of nothing was delivered")

    async def check_outage(self) -> None:
        """A backup that cannot be reached is an error, and nothing is lost by it."""
        history = History()
        async with self._open() as backup:
            await backup.write("app.db", pieces(history.commit({1: b"one"})))
            stored = history.pos
            file = history.commit({1: b"two"})
            async with self.outage():
                await _refused(backup, "app.db", file, BackupError)
                try:
                    await backup.positions()
                except BackupError:
                    pass
                else:
                    raise AssertionError("an unreachable backup has given its positions")
            assert await backup.positions() == {"app.db": stored}
            await backup.write("app.db", pieces(file))
            assert await backup.positions() == {"app.db": history.pos}

    # ------------------------------------------------------------------------------------------------------ running

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[BackupClient]:
        client = await self.client()
        try:
            yield client
        finally:
            with trio.CancelScope(shield=True):
                await client.aclose()


async def _check_content(backup: BackupClient, name: str, history: History) -> None:
    async with backup.snapshot(name) as data:
        file = b"".join([piece async for piece in data])
    decoder = ltx.Decoder(io.BytesIO(file), name=name)
    content = {pgno: bytes(page) for pgno, page in decoder}
    head = decoder.header
    assert head.is_snapshot, head
    assert Pos(head.max_txid, decoder.trailer.post_apply) == history.pos
    assert content == history.pages, sorted(content)
    assert head.commit == len(history.pages)
    assert head.page_size == history.page_size or not history.pages


async def _refused(backup: BackupClient, name: str, file: bytes, kind: type[E]) -> E:
    try:
        result = await backup.write(name, pieces(file))
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, got {result!r}")


async def _failing(file: bytes) -> AsyncIterator[bytes]:
    yield file[: len(file) // 2]
    raise Interrupted


async def _cancelling(file: bytes, scope: trio.CancelScope) -> AsyncIterator[bytes]:
    yield file[: len(file) // 2]
    scope.cancel()
    await trio.lowlevel.checkpoint()
    yield file[len(file) // 2 :]
