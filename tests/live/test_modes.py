"""Changes of the journal mode, of the page size, and the end of a database."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from litefs.live import Busy, LiveDatabase

from .client import Client
from .origin import Origin, apply, content, filled, page_set, step
from .reader import CREATE, FILL, LOOK, next_generation


def test_into_wal_mode_under_open_connections(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live, mode="delete")
    with Client(str(path)) as client:
        assert client(LOOK) == [[0, 0, 100]]
        origin.db.execute("PRAGMA journal_mode=WAL")
        apply(live, origin.changes())
        step(origin, live, next_generation(1))
        assert client(LOOK) == [[1, 1, 100]]
        assert client.value("PRAGMA journal_mode") == "wal"
        assert client.value("PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("bystander", [False, True])
def test_out_of_wal_mode(tmp_path: Path, path: Path, live: LiveDatabase, bystander: bool) -> None:
    origin = filled(tmp_path, live)
    step(origin, live, next_generation(1))
    with Client(str(path)) as client:
        assert client(LOOK) == [[1, 1, 100]]
        if not bystander:
            client.close()
        origin.db.execute("PRAGMA journal_mode=DELETE")
        apply(live, origin.changes())
        assert Path(f"{path}-wal").exists() == bystander
        for number in range(2, 6):
            step(origin, live, next_generation(number))
            live.checkpoint()
            if bystander:
                assert client(LOOK) == [[number, number, 100]]
        assert Path(f"{path}-wal").exists() == bystander
    live.checkpoint()
    assert not Path(f"{path}-wal").exists()
    assert path.read_bytes() == origin.data()
    step(origin, live, next_generation(6))
    assert path.read_bytes() == origin.data()


def test_out_of_wal_mode_and_back(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = filled(tmp_path, live)
    with Client(str(path)) as client:
        for number in range(10):
            assert client.value("PRAGMA integrity_check") == "ok"
            origin.db.execute(f"PRAGMA journal_mode={['DELETE', 'WAL'][number % 2]}")
            apply(live, origin.changes())
            step(origin, live, next_generation(number))
            assert client(LOOK) == [[number, number, 100]]
            live.checkpoint()
    live.close()
    assert path.read_bytes() == origin.data()


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("sizes", [(4096, 512), (512, 65536), (65536, 4096)])
def test_another_page_size_under_open_connections(
    tmp_path: Path, path: Path, live: LiveDatabase, mode: str, sizes: tuple[int, int]
) -> None:
    origins = [Origin(tmp_path / f"origin{size}.db", size, mode) for size in sizes]
    for number, origin in enumerate(origins):
        origin.execute(CREATE, FILL)
        for extra in range(number):
            origin.execute(f"CREATE TABLE extra{extra}(x)")
    apply(live, origins[0].changes())
    clients = [Client(str(path)) for _ in range(3)]
    try:
        for client in clients[:2]:
            assert client(LOOK) == [[0, 0, 100]]
        for turn in range(1, 7):
            origin = origins[turn % 2]
            origin.execute(next_generation(turn))
            if mode == "wal" and turn % 3 == 0:
                live.checkpoint()
            origin.execute(f"CREATE TABLE turn{turn}(x)")  # as an import must, this moves the schema cookie on
            cookie = max(int(other.rows("PRAGMA schema_version")[0][0]) for other in origins) + 1  # type: ignore[call-overload]
            origin.db.execute(f"PRAGMA schema_version={cookie}")
            apply(live, origin.everything())
            for client in clients[: 2 + turn % 2]:
                assert client(LOOK) == [[turn, turn, 100]]
                assert client.value("PRAGMA page_size") == sizes[turn % 2]
                assert client.value("PRAGMA integrity_check") == "ok"
            assert content(live, path) == origin.data()
            step(origin, live, next_generation(turn + 100))
            assert clients[0](LOOK) == [[turn + 100, turn + 100, 100]]
            clients[1](f"INSERT INTO t VALUES(1000 + {turn}, 0, 'their own')")
            assert clients[0].value("PRAGMA integrity_check") == "ok"
    finally:
        for client in clients:
            client.close()


def test_another_page_size_waits_for_readers(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin, other = Origin(tmp_path / "origin.db", 4096), Origin(tmp_path / "other.db", 512)
    for database in (origin, other):
        database.execute(CREATE, FILL)
    other.execute(next_generation(1))
    apply(live, origin.everything())
    with Client(str(path)) as client, Client(str(path), timeout=0) as second:
        client("BEGIN")
        client(LOOK)
        with pytest.raises(Busy, match="a reader"):
            apply(live, other.everything(), before=lambda: pytest.fail("called"), seconds=0.05)
        assert second(LOOK) == [[0, 0, 100]]
        client("COMMIT")
        apply(live, other.everything())
        assert client(LOOK) == second(LOOK) == [[1, 1, 100]]


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_the_end_of_a_database_and_its_return(tmp_path: Path, path: Path, live: LiveDatabase, mode: str) -> None:
    origin = Origin(tmp_path / "origin.db", mode=mode)
    origin.execute(CREATE, FILL)
    for turn in range(3):
        apply(live, origin.everything())
        with Client(str(path)) as client:
            assert client(LOOK) == [[turn, turn, 100]] if turn else [[0, 0, 100]]
            step(origin, live, next_generation(turn + 1))
            apply(live, page_set(4096, 0, {}))
            assert sorted(entry.name for entry in tmp_path.glob("copy.db*")) == []
            if turn == 1:
                # A connection to the removed files does no harm to those that take the name.
                apply(live, origin.everything())
                client.value("SELECT count(*) FROM t")
    apply(live, origin.everything())
    assert content(live, path) == origin.data()
    live.close()
    assert path.read_bytes() == origin.data()


def test_the_end_of_a_database_that_is_not_there(path: Path, live: LiveDatabase) -> None:
    called: list[int] = []
    apply(live, page_set(4096, 0, {}), before=lambda: called.append(1))
    assert called == [1]
    assert not path.exists()


def test_the_end_waits_for_a_writer(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db")
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    with Client(str(path)) as client:
        client("BEGIN IMMEDIATE")
        with pytest.raises(Busy):
            apply(live, page_set(4096, 0, {}), seconds=0.02)
        client("COMMIT")
        apply(live, page_set(4096, 0, {}))


def test_a_database_replaced_by_somebody_else_is_opened_anew(tmp_path: Path, path: Path, live: LiveDatabase) -> None:
    origin = Origin(tmp_path / "origin.db")
    origin.execute(CREATE, FILL)
    apply(live, origin.everything())
    step(origin, live, next_generation(1))
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink()
    origin.execute(next_generation(2))
    apply(live, origin.everything(), seconds=time.monotonic())
    with Client(str(path)) as client:
        assert client(LOOK) == [[2, 2, 100]]
        assert client.value("PRAGMA integrity_check") == "ok"
