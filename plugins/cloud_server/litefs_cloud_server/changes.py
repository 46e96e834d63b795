"""What changes a cluster's backup, other than its nodes: for the API and the web page alike."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import trio
from litefs_backup_store.vault import Vault

from litefs.errors import FormatError
from litefs.ltx import Pos
from litefs_cloud_server.calls import Call, Server
from litefs_cloud_server.clusters import Cluster
from litefs_cloud_server.errors import Refused
from litefs_cloud_server.sqlitefile import as_transaction, database_header

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds for what is under way to end before a cluster is deleted."""


async def restore(server: Server, name: str, cluster: Cluster, database: str, state: dict[str, int]) -> Pos:
    """Make an earlier state of a database the newest one; the new position.

    Raises:
        NoSuchState, Damaged, StorageError: nothing has changed.
    """
    pos = await _append(cluster, database, partial(cluster.vault.append_state, database, **state))
    server.counters.restores[name] += 1
    log.info('%s: "%s" was restored as transaction %016x', name, database, pos.txid)
    return pos


async def put(call: Call, database: str, file: BinaryIO) -> Pos:
    """Make a SQLite file the newest state of a database, or a new database; the new position.

    Raises:
        FormatError: it is no SQLite database, or has pages of another size; nothing has changed.
    """
    vault = call.cluster.vault
    pos = await _append(call.cluster, database, partial(_put, vault, database, file.fileno()))
    call.server.counters.restores[call.name] += 1
    log.info('%s: "%s" was uploaded as transaction %016x', call.name, database, pos.txid)
    return pos


def _put(vault: Vault, database: str, source: int) -> Pos:
    now = vault.head(database, fresh=True)
    page_size = database_header(source).page_size
    if now.commit and page_size != now.page_size:
        # A node of LiteFS would end with an error as soon as it fetched it.
        problem = f"the file has pages of {page_size} bytes, the database that it would replace {now.page_size}"
        raise FormatError(problem, f"change it before: PRAGMA page_size={now.page_size}; VACUUM")
    vault.keep(database)
    with tempfile.TemporaryDirectory(prefix="litefs-upload-") as scratch:
        path = Path(scratch) / "upload.ltx"
        with open(path, "wb") as target:
            head, trailer = as_transaction(source, target, now.pos, max(now.timestamp, time.time_ns() // 1_000_000))
        return vault.append(database, path, head, trailer)


async def _append(cluster: Cluster, database: str, change: Callable[[], Pos]) -> Pos:
    def locked() -> Pos:
        with cluster.lock(database):
            return change()

    with cluster.changing(), trio.CancelScope(shield=True):  # the client's patience does not matter
        pos = await trio.to_thread.run_sync(locked)
    cluster.restored[database] = pos.txid, time.time()
    cluster.caretaker.touched(database)
    return pos


async def remove_database(name: str, cluster: Cluster, database: str) -> None:
    """Forget a database with all of its past. Raises DatabaseUnknown, StorageError."""
    with cluster.changing(), trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(cluster.vault.remove, database)
    cluster.fetched.pop(database, None)
    cluster.restored.pop(database, None)
    log.warning('%s: "%s" was deleted with all of its past', name, database)


async def remove_cluster(server: Server, name: str) -> None:
    """Forget a cluster: its tokens, its databases and all of their past. May be done again when it was broken off."""
    cluster = await trio.to_thread.run_sync(server.clusters.get, name)
    with trio.move_on_after(PATIENCE) as patience:
        while not cluster.retire():
            await trio.sleep(0.05)
    if patience.cancelled_caught:
        raise Refused(503, "EINTERNAL", "the cluster is in use, try again")
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(server.clusters.remove, name)
        await trio.to_thread.run_sync(server.registry.remove, name)
    server.counters.drop(name)
    log.warning("%s: the cluster was deleted with all of its backups", name)
