"""Backups with points in time: what they cost commits, how far behind they are, and the way back."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import quantiles

from litefs_backup_s3.objects import S3Objects
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.levels import Levels
from litefs_backup_store.maintenance import Maintenance
from litefs_backup_store.objects import Objects
from litefs_backup_store.vault import Vault

from bench.databases import PAGE
from bench.figures import NATIVE, OURS, Figure
from bench.nodes import Node, NodeFailed, Program
from bench.processes import cpu_seconds, peak_memory
from bench.rows.bulk import source_database
from bench.s3 import BUCKET, running_s3
from bench.scratch import free_bytes
from bench.session import Session
from litefs import ltx
from litefs.ltx import Header, Pos

PAUSE = 0.004  # seconds at most between two commits
LOOK = 0.01  # seconds between two looks at how far the backup is
SECONDS = 4.0  # times as long as another measurement of a rate
UPLOAD = 0.1  # seconds that an upload takes, up to when it is seen
LIMIT = 60.0  # seconds for the backup to arrive
HISTORY = 100_000  # transactions
A_SECOND = 20  # of them
LOOKUPS = 20  # states that are restored


@dataclass(slots=True)
class Place:
    """Where a node backs up to, if anywhere.

    Attributes:
        section: ``backup`` of its litefs.yml.
    """

    title: str
    section: dict[str, object] | None = None
    objects: Objects | None = None
    node: Node = field(init=False)

    def stored(self, database: str) -> int:
        """The newest transaction in the backup."""
        assert self.objects is not None
        return Vault(self.objects).head(database, fresh=True).pos.txid


@contextmanager
def places(session: Session) -> Iterator[list[Place]]:
    """A node without a backup, one with a folder, and one with S3 where there is a server."""
    program = ours(session)
    with ExitStack() as stack, tempfile.TemporaryDirectory(dir=session.scratch) as folder:
        found = [Place("no backup")]
        path = Path(folder) / "backup"
        found.append(Place("a folder", {"type": "folder", "path": str(path)}, FolderObjects(path)))
        (server := Path(folder) / "s3").mkdir()
        section = stack.enter_context(running_s3(server))
        if section is not None:
            url = f"s3://{BUCKET}/cluster"
            found.append(Place("S3", {"type": "s3", "url": url, "s3": section}, S3Objects(url, section)))
        for place in found:
            more = f"backup: {json.dumps(place.section)}\n" if place.section else ""
            place.node = stack.enter_context(session.node(program, more=more))
        yield found


def ours(session: Session) -> Program:
    """The only contestant."""
    return next(program for program in session.programs if program.name == OURS)


# --------------------------------------------------------------------------------------------------- beside commits


def commits(session: Session) -> Iterator[Figure]:
    """Commits with and without a backup, in turns; and how far behind it is meanwhile."""
    figures: dict[str, Figure] = {}

    def add(title: str, unit: str, value: float, *, more: bool = False) -> None:
        figures.setdefault(title, Figure(title, unit, more=more)).add(OURS, value)

    with places(session) as found:
        for number in range(session.rounds):
            for place in found if number % 2 else reversed(found):
                paced = _paced(session, place, f"paced-{number}")
                add(f"processor time of a commit, {place.title}", "ms", paced.processor)
                for percent in (50, 99):
                    add(f"commit latency, {place.title}, p{percent}", "ms", _percentile(paced.took, percent))
                    if place.objects is not None:
                        add(f"upload lag, {place.title}, p{percent}", "s", _percentile(paced.lags, percent))
                        for what, took in (("during an upload", paced.during), ("between uploads", paced.between)):
                            add(f"commit latency, {place.title}, {what}, p{percent}", "ms", _percentile(took, percent))
                rate, lag = _flat_out(session, place, f"flat-out-{number}")
                add(f"one-row commits, wal NORMAL, {place.title}", "rate", rate, more=True)
                if place.objects is not None:
                    add(f"after {session.seconds:g} s of these, until the backup has them, {place.title}", "s", lag)
    yield from sorted(figures.values(), key=lambda figure: figure.title)
    for place in found[1:]:
        for one, other in (
            (f"commit latency, {place.title}, p50", f"commit latency, {found[0].title}, p50"),
            (f"processor time of a commit, {place.title}", f"processor time of a commit, {found[0].title}"),
            (
                f"commit latency, {place.title}, during an upload, p50",
                f"commit latency, {place.title}, between uploads, p50",
            ),
        ):
            yield _ratio(figures[one], figures[other])


def _ratio(one: Figure, other: Figure) -> Figure:
    found = Figure(f"  {one.title}: of {other.title.rpartition(', p')[0] or other.title}", "ratio")
    for a, b in zip(one.samples[OURS], other.samples[OURS], strict=True):
        found.add(OURS, a / b)
    return found


def _percentile(values: list[float], percent: int) -> float:
    return quantiles(values, n=100)[percent - 1] if len(values) > 1 else float("nan")


@dataclass(slots=True)
class _Commits:
    """What commits at a pace took, in seconds.

    Attributes:
        lags: from each until it was in the backup.
        during, between: those of `took` beside an upload, and the others: the same weather for both.
        processor: time of the node for one of them, uploads included.
    """

    took: list[float]
    processor: float
    lags: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    between: list[float] = field(default_factory=list)


def _paced(session: Session, place: Place, database: str) -> _Commits:
    path = place.node.mount / database
    session.work("create", path=path, journal="wal", rows=0)
    session.settle()
    first = _txid(place.node, database) + 1
    before = cpu_seconds(place.node.pids)
    seen: list[tuple[float, int]] = []
    with session.working("latencies", path=path, synchronous="NORMAL", pause=PAUSE) as writer:
        _watch(place, database, seen, time.monotonic() + SECONDS * session.seconds)
        writer.finish()
        found = writer.result()
    processor = (cpu_seconds(place.node.pids) - before) / len(found)
    commits = _Commits([took for _, took in found], processor)
    if place.objects is None:
        return commits
    _wait_stored(place, database, seen)
    stored = [now for (_, before), (now, after) in pairwise(seen) if after > before]
    at = 0
    for number, (begin, took) in enumerate(found):
        while seen[at][1] < first + number:
            at += 1
        commits.lags.append(max(0.0, seen[at][0] - begin - took))
        beside = any(0 <= end - begin <= UPLOAD for end in stored[bisect_left(stored, begin) :][:1])
        (commits.during if beside else commits.between).append(took)
    return commits


def _watch(place: Place, database: str, seen: list[tuple[float, int]], until: float) -> None:
    while time.monotonic() < until:
        if place.objects is not None:
            seen.append((time.monotonic(), place.stored(database)))
        time.sleep(LOOK)


def _wait_stored(place: Place, database: str, seen: list[tuple[float, int]]) -> None:
    deadline = time.monotonic() + LIMIT
    wanted = _txid(place.node, database)
    while not seen or seen[-1][1] < wanted:
        if time.monotonic() > deadline:
            raise NodeFailed(f"the backup to {place.title} does not arrive")
        time.sleep(LOOK)
        seen.append((time.monotonic(), place.stored(database)))


def _flat_out(session: Session, place: Place, database: str) -> tuple[float, float]:
    path = place.node.mount / database
    session.work("create", path=path, journal="wal", rows=0)
    session.settle()
    rate = session.work("commits", path=path, synchronous="NORMAL", seconds=session.seconds)
    end = time.monotonic()
    seen: list[tuple[float, int]] = []
    if place.objects is not None:
        _wait_stored(place, database, seen)
    return rate, time.monotonic() - end


def _txid(node: Node, database: str) -> int:
    return int(node.position(database)[:16], 16)


# ------------------------------------------------------------------------------------------------------ and back again


def restore(session: Session) -> Iterator[Figure]:
    """A big database into a backup, and out of it again, next to copying the file; the memory that takes."""
    source = source_database(session)
    if source is None:
        return
    of = f"of {source.stat().st_size / 1e9:.2f} GB"
    sent = Figure(f"import {of} until it is in the backup", "s")
    back, memory = Figure(f"restore {of} to a file; native: cp", "s"), Figure("peak memory of that", "bytes")
    target = session.scratch / "restored"
    for _ in range(session.rounds):
        with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
            config = {"type": "folder", "path": folder}
            with session.node(ours(session), more=f"backup: {json.dumps(config)}\n") as node:
                place = Place("a folder", {}, FolderObjects(folder))
                place.node = node
                session.settle()
                begin = time.perf_counter()
                node.program.run("import", "-url", node.url, "-name", "big", source)
                _wait_stored(place, "big", [])
                sent.add(OURS, time.perf_counter() - begin)
                session.settle()
                seconds, peak = _run(
                    [*node.program.command, "backup", "restore", "-config", str(node.path / "litefs.yml"),
                     "-db", "big", "-to", str(target)]
                )  # fmt: skip
                back.add(OURS, seconds)
                memory.add(OURS, peak)
                target.unlink()
                session.settle()
                back.add(NATIVE, _run(["sh", "-c", f"cp {source} {target} && sync {target}"])[0])
                target.unlink()
    yield from (sent, back, memory)


def _run(command: list[str]) -> tuple[float, float]:
    """Seconds that a command took, and bytes that were resident in it at most."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise NodeFailed(f"{command[0]} {command[1]} failed, see above")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024


# ----------------------------------------------------------------------------------------------------- a long history


def history(session: Session) -> Iterator[Figure]:
    """A backup of many transactions, made at the pace of a clock of its own; its size, and states that are restored."""
    if free_bytes(session.scratch) < 4e9:
        print("skipped: 4 GB of free disk are needed")
        return
    with tempfile.TemporaryDirectory(dir=session.scratch) as folder:
        vault = Vault(FolderObjects(Path(folder) / "vault"))
        Path("/proc/self/clear_refs").write_text("5")  # what was resident at most is forgotten
        made = _make_history(vault, Path(folder) / "file.ltx")
        size = sum(item.size for item in vault.objects.list("ltx/"))
        per = Figure(f"bytes stored per byte of {HISTORY:,} transactions' files", "ratio")
        per.add(OURS, size / made.written)
        per_page = Figure("bytes stored per byte that was committed, whole pages", "ratio")
        per_page.add(OURS, size / made.committed)
        state = Figure(f"a state among {HISTORY:,} transactions, restored", "s")
        files = Figure("files that took", "count")
        pick = random.Random(1)
        for _ in range(LOOKUPS):
            moment = pick.randrange(made.begin, made.end)
            files.add(OURS, len(vault.plan("db", timestamp=moment).entries))
            begin = time.perf_counter()
            with open(os.devnull, "wb") as output:
                vault.restore("db", output, timestamp=moment, compress=False)
            state.add(OURS, time.perf_counter() - begin)
        peak = Figure("peak memory of the process that made and read it", "bytes")
        peak.add(OURS, peak_memory(os.getpid()))
        yield from (per, per_page, state, files, peak)


@dataclass(slots=True)
class _Made:
    begin: int
    end: int
    written: int = 0
    committed: int = 0


def _make_history(vault: Vault, file: Path) -> _Made:
    """Transactions of two to five pages of a database of 2,000, a second's worth in each upload."""
    vault.claim()
    pick = random.Random(0)
    database: dict[int, bytes] = {}
    pos, now = Pos(0, 0), 1_700_000_000_000
    made = _Made(now + 10_000, now)
    checksum = 0
    for second in range(HISTORY // A_SECOND):
        files = []
        for _ in range(A_SECOND):
            now += 1000 // A_SECOND
            pages = {1: _page(pick), **{pick.randrange(2, 2001): _page(pick) for _ in range(pick.randrange(1, 5))}}
            if not database:
                pages = {number: _page(pick) for number in range(1, 2001)}
            for number, data in pages.items():
                if number in database:
                    checksum ^= ltx.page_checksum(number, database[number])
                checksum ^= ltx.page_checksum(number, data)
            database |= pages
            after = Pos(pos.txid + 1, ltx.database_checksum([checksum]))
            head = Header(PAGE, 2000, after.txid, after.txid, ltx.FLAG_LZ4, now, pos.checksum, node_id=1)
            files.append(ltx.encode(head, sorted(pages.items()), after.checksum))
            made.written += len(files[-1])
            made.committed += len(pages) * PAGE
            pos = after
        _upload(vault, file, files)
        if second % 10 == 9:
            maintenance = Maintenance(vault, Levels(), now=now / 1000)
            maintenance.run("db") if second % 300 == 299 else maintenance.merge_sent("db")
    made.end = now
    return made


def _page(pick: random.Random) -> bytes:
    """Half of it compresses."""
    return pick.randbytes(PAGE // 2).ljust(PAGE, b"x")


def _upload(vault: Vault, file: Path, files: list[bytes]) -> None:
    with open(file, "wb") as output:
        head, trailer = ltx.compact([io.BytesIO(data) for data in files], output, compress=True)
    vault.append("db", file, head, trailer)
