"""The contract of litefs.leases, on a `LeaseFile`."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import trio

from litefs.leases import BaseLeaser, PrimaryInfo
from litefs_lease_file.store import LeaseFile

T = TypeVar("T")


async def _in_thread(call: Callable[[], T]) -> T:
    # A dead file server blocks for minutes: the node must be able to turn away.  What an abandoned call may still
    # have taken runs out by itself.
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)


class FileLease:
    """This node's hold on the file."""

    supports_handoff = True

    def __init__(self, file: LeaseFile, lease_id: str, node: PrimaryInfo, ttl: float) -> None:
        self.id = lease_id
        self.ttl = ttl
        self._file = file
        self._node = node

    async def renew(self) -> None:
        """Hold for another ttl.  Raises LeaseExpired, LeaseUnavailable."""
        await _in_thread(partial(self._file.keep, self.id, self._node, self.ttl))
        from litefs_lease_file.metrics import RENEWALS  # late: importing it at start would delay the mount

        RENEWALS.inc()

    async def release(self) -> None:
        """Give it up.  Raises LeaseUnavailable."""
        await _in_thread(partial(self._file.drop, self.id, self._node))


class FileLeaser(BaseLeaser):
    """A node's access to the file.

    Args:
        file: the shared file.
        hostname: this node's name.
        advertise_url: this node's URL.
        ttl: seconds for which a lease holds without renewal.
    """

    type = "file"

    def __init__(self, file: LeaseFile, hostname: str, advertise_url: str, *, ttl: float) -> None:
        super().__init__(hostname, advertise_url)
        self._file = file
        self._ttl = ttl

    async def primary(self) -> PrimaryInfo | None:
        """Who holds it.  Raises LeaseUnavailable."""
        return await _in_thread(self._file.holder)

    async def acquire(self) -> FileLease:
        """Take it.  Raises LeaseHeld, LeaseUnavailable."""
        lease_id = secrets.token_hex(8)
        await _in_thread(partial(self._file.take, lease_id, self.info, self._ttl))
        return FileLease(self._file, lease_id, self.info, self._ttl)

    async def acquire_existing(self, lease_id: str) -> FileLease:
        """Take over what its holder hands on.  Raises LeaseExpired, LeaseUnavailable."""
        await _in_thread(partial(self._file.take_over, lease_id, self.info, self._ttl))
        return FileLease(self._file, lease_id, self.info, self._ttl)

    async def cluster_id(self) -> str | None:
        """The stored id.  Raises LeaseUnavailable."""
        return (await _in_thread(self._file.read)).cluster_id or None

    async def set_cluster_id(self, cluster_id: str) -> None:
        """Store the id.  Raises ClusterIDConflict, LeaseUnavailable."""
        await _in_thread(partial(self._file.set_cluster_id, cluster_id))
