"""The backup of one cluster: databases, their states, and who may add to them. All of it blocks.

    epoch                    number of the present writer
    heads/DATABASE.json      where a database stands, see `litefs_backup_store.head`
    ltx/DATABASE/LEVEL/...   its files, see `litefs_backup_store.entries`

A file is added in two steps: its object, under a key that nobody else uses, then the head that names it. A process that
dies in between leaves an object that nothing refers to; maintenance removes it.
"""

from __future__ import annotations

import json
import logging
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from litefs import jsontext, ltx
from litefs.backup import BackupError, PositionConflict
from litefs.backup.folding import Writable, fold
from litefs.errors import LTXError
from litefs.ltx import Header, Pos, Trailer
from litefs_backup_store import entries, head, plan
from litefs_backup_store.entries import Entry
from litefs_backup_store.head import Head
from litefs_backup_store.objects import Damaged, ObjectChanged, ObjectMissing, Objects, StorageError
from litefs_backup_store.plan import NoSuchState, Plan

log = logging.getLogger(__name__)

EPOCH = "epoch"
PIECE = 1 << 20
"""Bytes that are copied at a time."""

TRIES = 10
"""Times that a change is tried when somebody else changes the same object."""


class Replaced(BackupError):
    """Another node has become the writer of this backup: this one is not the primary any more."""


class DatabaseUnknown(NoSuchState):
    """The backup has no such database."""

    def __init__(self, name: str) -> None:
        super().__init__(f'database not found: "{name}"', "litefs backup list prints those there are")


class Vault:
    """Access to a cluster's backup. Several threads may use it.

    Args:
        objects: where it is kept; the vault has it to itself.
        writer: what this process is called in the epoch's object, for people.
    """

    def __init__(self, objects: Objects, *, writer: str = "") -> None:
        self.objects = objects
        self._writer = writer
        self._epoch = 0  # 0: a reader
        self._heads: dict[str, tuple[Head, str]] = {}  # by key; with the version of the object
        self._listed: dict[str, str] = {}  # versions by the listing, which may be of another kind
        self._lock = threading.Lock()

    # ---------------------------------------------------------------------------------------------------- writing

    def claim(self) -> int:
        """Become the writer; whoever was it before is refused from now on. The new epoch."""
        for _ in range(TRIES):
            epoch, version = self._read_epoch()
            try:
                data = json.dumps({"epoch": epoch + 1, "writer": self._writer, "time": int(time.time())}).encode()
                self.objects.replace(EPOCH, data, version)
            except ObjectChanged:
                continue
            self._epoch = epoch + 1
            return self._epoch
        raise StorageError("too many nodes want to be the writer of this backup at once")

    def join(self) -> None:
        """Write beside the present writer, as its equal: for what a person does at one moment."""
        self._epoch, _ = self._read_epoch()

    def _read_epoch(self) -> tuple[int, str | None]:
        try:
            data, version = self.objects.get(EPOCH)
            return int(jsontext.loads(data)["epoch"]), version
        except ObjectMissing:
            return 0, None
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(f"{EPOCH} is damaged: {error}") from error

    def check_writer(self) -> None:
        """Raises Replaced when another node has claimed the backup."""
        epoch, _ = self._read_epoch()
        if epoch != self._epoch:
            raise Replaced(f"another node has taken over this backup (epoch {epoch}, ours is {self._epoch})")

    def append(self, database: str, path: Path, header: Header, trailer: Trailer) -> Pos:
        """Store a complete, verified LTX file, given with its header and trailer; the new position.

        Raises:
            PositionConflict: it does not follow.
            Replaced, StorageError: nothing was stored, as far as anybody can tell.
        """
        self.check_writer()
        _check_follows(header, self.head(database, fresh=True).pos)
        key = entries.key_of(database, entries.SENT, header, trailer, secrets.token_hex(8))
        self.objects.upload(key, path)
        after = Pos(header.max_txid, trailer.post_apply)

        def add(old: Head) -> Head:
            if key in old.tail:
                return old  # an earlier try succeeded although its answer got lost
            _check_follows(header, old.pos)
            return replace(
                old,
                pos=after,
                epoch=self._epoch,
                timestamp=header.timestamp,
                page_size=header.page_size,
                commit=header.commit,
                tail=(*old.tail, key),
            )

        try:
            self.update(database, add)
        except (PositionConflict, Replaced):
            self.objects.delete([key])
            raise
        return after

    def update(self, database: str, change: Callable[[Head], Head]) -> Head:
        """Change a head, starting anew from what is there when somebody else was faster."""
        key = head.key_of(database)
        for attempt in range(TRIES):
            old, version = self._load(database, fresh=attempt > 0)
            if old.epoch > self._epoch:
                raise Replaced(f"another node has taken over this backup (epoch {old.epoch}, ours is {self._epoch})")
            new = change(old)
            if new == old:
                return old
            try:
                version = self.objects.replace(key, new.encode(), version)
            except ObjectChanged:
                continue
            with self._lock:
                self._heads[key] = new, version
                self._listed.pop(key, None)
            return new
        raise StorageError(f"{key} is changed by others all the time")

    def remove(self, database: str) -> None:
        """Forget a database with all of its past. Raises DatabaseUnknown, Replaced, StorageError."""
        self.check_writer()
        if not self.head(database, fresh=True).pos.txid:
            raise DatabaseUnknown(database)
        self._drop([head.key_of(database)])  # first: from now on nothing refers to the files
        self._drop([item.key for item in self.objects.list(entries.prefix(database))])

    def erase(self) -> None:
        """Remove everything. Raises StorageError."""
        for prefix in (head.PREFIX, entries.FILES):
            self._drop([item.key for item in self.objects.list(prefix)])
        self._drop([EPOCH])

    def _drop(self, keys: Sequence[str]) -> None:
        self.objects.delete(keys)
        with self._lock:
            for key in keys:
                self._heads.pop(key, None)
                self._listed.pop(key, None)

    # ---------------------------------------------------------------------------------------------------- reading

    def head(self, database: str, *, fresh: bool = False) -> Head:
        """Where a database stands; at (0, 0) when it is not known."""
        return self._load(database, fresh=fresh)[0]

    def _load(self, database: str, *, fresh: bool) -> tuple[Head, str | None]:
        key = head.key_of(database)
        with self._lock:
            known = self._heads.get(key)
        if known is not None and not fresh:
            return known
        try:
            data, version = self.objects.get(key)
        except ObjectMissing:
            return Head(database), None
        found = Head.decode(data, key)
        with self._lock:
            self._heads[key] = found, version
        return found, version

    def heads(self) -> list[Head]:
        """Every database's head; only those that have changed since the last call are read."""
        found = []
        for item in list(self.objects.list(head.PREFIX)):
            with self._lock:
                known = self._heads.get(item.key) if self._listed.get(item.key) == item.version else None
            if known is None:
                data, version = self.objects.get(item.key)
                known = Head.decode(data, item.key), version
                with self._lock:
                    self._heads[item.key] = known
                    self._listed[item.key] = item.version
            found.append(known[0])
        return found

    def positions(self) -> dict[str, Pos]:
        """Where every database stands."""
        return {found.database: found.pos for found in self.heads() if found.pos.txid}

    def files(self, database: str) -> list[Entry]:
        """Every file of a database that counts."""
        merged = [
            entry
            for item in self.objects.list(entries.prefix(database))
            if (entry := entries.parse(item.key, item.size)) is not None and entry.level != entries.SENT
        ]
        return [*merged, *self.head(database, fresh=True).sent]

    def plan(self, database: str, *, txid: int = 0, timestamp: int = 0) -> Plan:
        """The files that lead to a state, by default the newest. Raises NoSuchState."""
        files = self.files(database)
        pos = self.head(database).pos
        if not pos.txid:
            raise DatabaseUnknown(database)
        return plan.make(files, pos=None if txid or timestamp else pos, txid=txid, timestamp=timestamp)

    def restore(
        self, database: str, output: Writable, *, txid: int = 0, timestamp: int = 0, compress: bool = True
    ) -> tuple[Header, Trailer]:
        """Write a snapshot LTX file of a state, by default the newest; everything is verified on the way.

        Args:
            compress: whether pages are compressed, where the file has to be made; one that is stored comes as it is.

        Raises:
            NoSuchState: nothing is kept of it.
            Damaged: a file is not what it was.
        """
        chosen, paths, scratch = self._fetch_plan(database, txid, timestamp)
        with scratch:
            try:
                return _pass_on(paths[0], output) if len(paths) == 1 else fold(paths, output, compress=compress)
            except LTXError as error:
                raise Damaged(f'"{database}" at {chosen.pos}: {error}') from error

    def keep(self, database: str) -> None:
        """Keep the newest state for as long as copies of the whole database are kept, whatever is merged meanwhile.

        Raises:
            NoSuchState, Damaged, StorageError: it is not kept.
        """
        if not self.head(database, fresh=True).commit:
            return  # there is none, or it was deleted
        with tempfile.TemporaryDirectory(prefix="litefs-vault-") as scratch:
            path = Path(scratch) / "copy.ltx"
            with open(path, "wb") as target:
                self.restore(database, target)
            self.store(database, entries.SNAPSHOT, path)

    def append_state(self, database: str, *, txid: int = 0, timestamp: int = 0) -> Pos:
        """Make an earlier state the newest one, as a transaction that changes everything; the new position.

        The state before it is kept, so that this can be undone.

        Raises:
            NoSuchState, Damaged, PositionConflict, StorageError: nothing has changed.
        """
        self.keep(database)
        with tempfile.TemporaryDirectory(prefix="litefs-vault-") as scratch:
            old, new = Path(scratch) / "old.ltx", Path(scratch) / "new.ltx"
            with open(old, "wb+") as source, open(new, "wb") as target:
                self.restore(database, source, txid=txid, timestamp=timestamp, compress=False)
                source.seek(0)
                decoder = ltx.Decoder(source, name=old.name)
                now = self.head(database, fresh=True)
                head = replace(
                    decoder.header,
                    min_txid=now.pos.txid + 1,
                    max_txid=now.pos.txid + 1,
                    pre_apply=now.pos.checksum,
                    timestamp=max(now.timestamp, time.time_ns() // 1_000_000),
                    flags=ltx.FLAG_LZ4,
                )
                encoder = ltx.Encoder(target, head)
                for pages in decoder.batches():
                    encoder.write_pages(pages)
                trailer = encoder.finish(decoder.trailer.post_apply)
            return self.append(database, new, head, trailer)

    def _fetch_plan(
        self, database: str, txid: int, timestamp: int
    ) -> tuple[Plan, Sequence[Path], tempfile.TemporaryDirectory[str]]:
        for attempt in range(TRIES):
            chosen = self.plan(database, txid=txid, timestamp=timestamp)
            scratch = tempfile.TemporaryDirectory(prefix="litefs-vault-")
            try:
                return chosen, self.download(chosen.entries, Path(scratch.name)), scratch
            except ObjectMissing:  # merged meanwhile: there is another way now
                scratch.cleanup()
                if attempt == TRIES - 1:
                    raise
            except BaseException:
                scratch.cleanup()
                raise
        raise AssertionError

    def download(self, files: Sequence[Entry], folder: Path) -> list[Path]:
        """Bring files into a folder."""
        paths = []
        for number, entry in enumerate(files):
            path = folder / f"{number:08}-{entry.min_txid:016x}-{entry.max_txid:016x}.ltx"
            self.objects.download(entry.key, path)
            paths.append(path)
        return paths

    @contextmanager
    def fetched(self, files: Sequence[Entry]) -> Iterator[list[Path]]:
        """Files in a temporary folder. Raises ObjectMissing."""
        with tempfile.TemporaryDirectory(prefix="litefs-vault-") as scratch:
            yield self.download(files, Path(scratch))

    def store(self, database: str, level: int, path: Path) -> Entry:
        """Add a merged file, which counts as soon as it is there."""
        with open(path, "rb") as file:
            header, trailer = ltx.read_info(file, path.name)
        key = entries.key_of(database, level, header, trailer)
        self.objects.upload(key, path)
        found = entries.parse(key, path.stat().st_size)
        assert found is not None
        return found


def _pass_on(path: Path, output: Writable) -> tuple[Header, Trailer]:
    """A snapshot that is stored as it is wanted: read twice, and not made anew. Raises LTXError."""
    with open(path, "rb") as file:
        found = ltx.verify(file, path.name)
        file.seek(0)
        while piece := file.read(PIECE):
            output.write(piece)
    return found


def _check_follows(header: Header, pos: Pos) -> None:
    follows = pos.txid == 0 if header.is_snapshot else header.pos_before == pos
    if not follows:
        raise PositionConflict(pos)
