"""Applying to a WAL database that real SQLite connections of other processes have open."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from litefs.live import Busy, LiveDatabase, PageSet

from .client import Client, ClientError
from .origin import Origin, apply, content, filled, page_set, step
from .reader import CREATE, FILL, LOOK, Reader, next_generation


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_every_transaction_leaves_the_database_whole(
    tmp_path: Path, path: Path, live: LiveDatabase, page_size: int
) -> None:
    origin = Origin(tmp_path / "origin.db", page_size)
    step(origin, live, "CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
    with Client(str(path)) as client:
        assert client.value("PRAGMA journal_mode") == "wal"
        for number in range(60):
            step(
                origin,
                live,
                f"INSERT INTO t(b) VALUES(randomblob({number * 137 % 4000}))",
                f"DELETE FROM t WHERE a % 7 = {number % 7} AND {number % 5 == 0}",
            )
            assert client.value("PRAGMA integrity_check") == "ok"
            assert client("SELECT a, length(b) FROM t") == origin.rows("SELECT a, length(b) FROM t")
            if number % 20 == 19:
                live.checkpoint()
                assert content(live, path) == origin.data()
    live.close()
    assert path.read_bytes() == origin.data()


@pytest.mark.slow
def test_a_long_reader_keeps_its_snapshot_and_holds_up_nothing(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    with Client(str(path)) as client, Client(str(path)) as other:
        client("BEGIN")
        before = client("SELECT generation, pad FROM t")
        for number in range(1, 2001):
            origin.execute(f"UPDATE t SET generation={number} WHERE k={number % 100 + 1}")
            apply(live, origin.changes(), seconds=0)
            if number % 100 == 0:
                live.checkpoint()
                assert client("SELECT generation, pad FROM t") == before
                assert other.value("SELECT max(generation) FROM t") == number
                assert other.value("PRAGMA integrity_check") == "ok"
        assert client.value("PRAGMA integrity_check") == "ok"
        client("COMMIT")
        assert client.value("SELECT max(generation) FROM t") == 2000
        assert client.value("PRAGMA integrity_check") == "ok"


def test_sqlite_writes_and_checkpoints_after_us_and_we_after_it(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    with Client(str(path)) as client:
        for number in range(30):
            origin.execute(next_generation(number))
            apply(live, origin.everything())
            assert client(LOOK) == [[number, number, 100]]
            client(f"UPDATE t SET generation=-{number}")
            if number % 4 == 3:
                mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][number // 4 % 4]
                assert client(f"PRAGMA wal_checkpoint({mode})")[0][0] == 0
            assert client.value("PRAGMA integrity_check") == "ok"


def test_frames_that_a_killed_writer_left_are_replaced(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    for number in range(1, 6):
        with Client(str(path)) as client, Client(str(path)) as writer:
            writer("PRAGMA cache_size=2")
            writer("BEGIN")
            writer("UPDATE t SET generation=-1, pad=randomblob(900)")
            writer.kill()
            step(origin, live, f"UPDATE t SET generation={number}")
            assert client(LOOK) == [[number, number, 100]]
            assert client.value("PRAGMA integrity_check") == "ok"
    assert content(live, path) == origin.data()


@pytest.mark.slow
def test_one_transaction_over_many_index_blocks(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, 512)
    with Client(str(path)) as client:
        client("BEGIN")
        before = client(LOOK)
        origin.execute("CREATE TABLE big(b)", *["INSERT INTO big VALUES(randomblob(100000))"] * 50)
        origin.execute(next_generation(1))
        changes = origin.changes()
        assert len(list(changes.pages())) > 2 * 4096
        apply(live, changes)
        assert client(LOOK) == before
        client("COMMIT")
        assert client(LOOK) == [[1, 1, 100]]
        assert client.value("PRAGMA integrity_check") == "ok"
        for number in range(2, 40):
            step(origin, live, next_generation(number))
            assert client(LOOK) == [[number, number, 100]]
        assert client.value("PRAGMA integrity_check") == "ok"
        assert content(live, path) == origin.data()


def test_a_shrinking_database(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    with Client(str(path)) as client:
        pages = client.value("PRAGMA page_count")
        step(origin, live, "DELETE FROM t WHERE k > 10")
        assert client.value("PRAGMA page_count") < pages / 2
        assert client.value("PRAGMA integrity_check") == "ok"
        client("PRAGMA wal_checkpoint(TRUNCATE)")
        assert path.read_bytes() == origin.data()


def test_a_size_without_pages(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    data = origin.data()
    for commit in (len(data) // 4096 - 1, len(data) // 4096 - 1, len(data) // 4096 - 2):
        apply(live, page_set(4096, commit, {}))
        assert content(live, path) == data[: commit * 4096]


def test_nothing_is_written_for_a_transaction_that_changes_nothing(
    tmp_path: Path, path: Path, live: LiveDatabase
) -> None:
    origin = Origin(tmp_path / "origin.db")
    step(origin, live, CREATE)
    step(origin, live, FILL)
    size = Path(f"{path}-wal").stat().st_size
    apply(live, page_set(4096, len(origin.data()) // 4096, {}))
    assert Path(f"{path}-wal").stat().st_size == size


@pytest.mark.slow
def test_the_log_is_written_over_once_it_was_copied(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    sizes = set()
    with Client(str(path)) as client:
        for number in range(1, 200):
            step(origin, live, next_generation(number))
            assert client(LOOK) == [[number, number, 100]]
            if number % 10 == 0:
                live.checkpoint()
                sizes.add(Path(f"{path}-wal").stat().st_size)
        assert client.value("PRAGMA integrity_check") == "ok"
    assert max(sizes) < 2 << 20


def test_the_log_is_not_written_over_under_a_reader(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    with Client(str(path)) as client:
        client("BEGIN")
        assert client(LOOK) == [[1, 1, 100]]
        live.checkpoint()
        for number in range(2, 5):
            step(origin, live, next_generation(number))
            live.checkpoint()
            assert client(LOOK) == [[1, 1, 100]]


def test_a_damaged_index_is_recovered_first(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    with Client(str(path)) as client:
        for number in range(1, 4):
            client.value("SELECT count(*) FROM t")
            code = f"open({str(path) + '-shm'!r}, 'r+b').write(bytes(60))"
            subprocess.run([sys.executable, "-c", code], check=True)
            step(origin, live, next_generation(number))
            assert client(LOOK) == [[number, number, 100]]
    assert content(live, path) == origin.data()


def test_a_stray_close_does_not_give_the_log_away(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    """Closing any descriptor drops the POSIX locks of SQLite in this process; ours must remain."""
    origin = filled(tmp_path, live)
    for number in range(1, 4):
        step(origin, live, next_generation(number))
        log = Path(f"{path}-wal").stat()
        for suffix in ("", "-shm"):
            Path(f"{path}{suffix}").read_bytes()
        with Client(str(path)) as client:
            assert client(LOOK) == [[number, number, 100]]
            assert Path(f"{path}-shm").stat().st_size == 32768
        assert Path(f"{path}-wal").stat().st_ino == log.st_ino


def test_before_may_refuse(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    origin.execute(next_generation(1))
    changes = origin.changes()

    def refuse() -> None:
        with Client(str(path), timeout=0) as writer, pytest.raises(ClientError, match="locked"):
            writer("BEGIN IMMEDIATE")
        raise PermissionError

    with pytest.raises(PermissionError):
        apply(live, changes, before=refuse)
    with Client(str(path), timeout=0) as client:
        assert client(LOOK) == [[0, 0, 100]]
        client("BEGIN IMMEDIATE")
        client("ROLLBACK")
        apply(live, changes)
        assert client(LOOK) == [[1, 1, 100]]


def test_a_writer_that_does_not_end_makes_us_give_up(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    origin.execute(next_generation(1))
    changes = origin.changes()
    with Client(str(path)) as client:
        client("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="another writer"):
            apply(live, changes, before=lambda: pytest.fail("called"), seconds=0.02)
        client("COMMIT")
        apply(live, changes)
        assert client(LOOK) == [[1, 1, 100]]


def test_a_connection_in_exclusive_mode_makes_us_give_up(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db")
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    live.close()
    with Client(str(path)) as client:
        client("PRAGMA locking_mode=EXCLUSIVE")
        client("UPDATE t SET generation=5")
        with pytest.raises(Busy, match="exclusively"):
            apply(live, origin.everything(), seconds=0.02)
        live.checkpoint()
        assert client(LOOK) == [[5, 5, 100]]
    apply(live, origin.everything())
    with Client(str(path)) as client:
        assert client(LOOK) == [[0, 0, 100]]


@pytest.mark.slow
def test_readers_never_see_a_torn_state(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    readers = [Reader(path) for _ in range(3)]
    end, number = time.monotonic() + 3, 0
    while time.monotonic() < end:
        number += 1
        step(origin, live, next_generation(number))
        if number % 17 == 0:
            live.checkpoint()
    seen = [reader.finish() for reader in readers]
    assert min(count for count, _ in seen) > 0, seen
    assert content(live, path) == origin.data()


APPLIER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from litefs.live import LiveDatabase, PageSet
live = LiveDatabase(sys.argv[1])
states = [open(name, "rb").read() for name in sys.argv[3:]]
def pages(data):
    return ((at // 512 + 1, data[at:at+512]) for at in range(0, len(data), 512))
print("ready", flush=True)
while True:
    for data in states:
        changes = PageSet(512, len(data) // 512, lambda: pages(data))
        live.apply(changes, before=lambda: None, deadline=time.monotonic() + 10)
"""


@pytest.mark.slow
def test_a_kill_leaves_the_old_or_the_new_state(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db", 512)
    origin.execute(CREATE, FILL)
    files = []
    for number in range(3):
        origin.execute(next_generation(number))
        files.append(tmp_path / f"state{number}")
        files[-1].write_bytes(origin.data())
    root = Path(__file__).parents[2]
    apply(live, origin.everything())
    live.close()
    for round_ in range(12):
        with Client(str(path)) as bystander:
            if round_ % 2:
                bystander(LOOK)
            child = subprocess.Popen(
                [sys.executable, "-c", APPLIER, path, root, *files], stdout=subprocess.PIPE, text=True
            )
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            time.sleep(0.05 + random.random() * 0.1)
            child.send_signal(signal.SIGKILL)
            child.wait()
            child.stdout.close()
            with Client(str(path)) as client:
                [[low, high, count]] = client(LOOK)
                assert low == high
                assert count == 100
                assert low in range(3)
                assert client.value("PRAGMA integrity_check") == "ok"
    assert content(live, path) in [file.read_bytes() for file in files]


def test_an_origin_that_fails_midway_leaves_the_old_state(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db")
    step(origin, live, CREATE, FILL, *["INSERT INTO t(pad) VALUES(zeroblob(3000000))"])
    good = origin.everything()

    def pages():  # type: ignore[no-untyped-def]
        for number, page in enumerate(good.pages()):
            if number == 600:
                raise OSError("the disk is gone")
            yield page[0], page[1][:-1] + b"x" if page[0] > 1 else page[1]

    with Client(str(path)) as client:
        with pytest.raises(OSError, match="disk is gone"):
            apply(live, PageSet(4096, good.commit, pages))
        assert client.value("PRAGMA integrity_check") == "ok"
        apply(live, good)
        assert client.value("PRAGMA integrity_check") == "ok"
    assert content(live, path) == origin.data()
