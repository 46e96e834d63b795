"""The lease file: read and changed by several machines, one at a time.

Everything here blocks; `litefs_lease_file.leaser` calls it in threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from litefs.errors import LeaseError
from litefs.leases import ClusterIDConflict, LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo

LOCK_LIMIT = 2.0
"""Seconds to wait for another node that is changing the file; it needs milliseconds."""


@dataclass(frozen=True)
class State:
    """Content of the file.  ``expires`` is wall-clock time in seconds; no id means that nobody holds the lease."""

    id: str = ""
    hostname: str = ""
    advertise_url: str = ""
    expires: float = 0.0
    cluster_id: str = ""

    @property
    def holder(self) -> PrimaryInfo:
        """Who holds it, or held it last."""
        return PrimaryInfo(self.hostname, self.advertise_url)


class LeaseFile:
    """Access to one lease file.  Every method raises LeaseUnavailable when the folder cannot be used.

    Args:
        path: the file.
        skew: seconds by which the clocks of nodes may differ.
        clock: the wall clock.
    """

    def __init__(self, path: str, *, skew: float = 1.0, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._skew = skew
        self._clock = clock

    def read(self) -> State:
        """The present content; an empty state while there is no file."""
        with self._named_errors():
            return self._read()

    def holder(self) -> PrimaryInfo | None:
        """Who holds the lease now."""
        state = self.read()
        return state.holder if self._held(state) else None

    def take(self, lease_id: str, node: PrimaryInfo, ttl: float) -> None:
        """Take the lease under a new id.  Raises LeaseHeld."""

        def change(state: State) -> State:
            if self._held(state):
                raise LeaseHeld(state.holder)
            return self._hold(state, lease_id, node, ttl)

        self._change(change)

    def keep(self, lease_id: str, node: PrimaryInfo, ttl: float) -> None:
        """Let a node's hold last for another ttl.  Raises LeaseExpired, also when it was handed on."""
        self._prolong(lease_id, node, ttl, lambda state: state.holder == node)

    def take_over(self, lease_id: str, node: PrimaryInfo, ttl: float) -> None:
        """Hold the lease of that id for another ttl, whoever held it so far.  Raises LeaseExpired."""
        self._prolong(lease_id, node, ttl, lambda state: True)

    def drop(self, lease_id: str, node: PrimaryInfo) -> None:
        """Give a node's lease up, if it is still there and was not handed on."""

        def change(state: State) -> State:
            return State(cluster_id=state.cluster_id) if (state.id, state.holder) == (lease_id, node) else state

        self._change(change)

    def set_cluster_id(self, cluster_id: str) -> None:
        """Store the cluster id.  Raises ClusterIDConflict."""

        def change(state: State) -> State:
            if state.cluster_id not in ("", cluster_id):
                raise ClusterIDConflict(state.cluster_id)
            return replace(state, cluster_id=cluster_id)

        self._change(change)

    def _prolong(self, lease_id: str, node: PrimaryInfo, ttl: float, allowed: Callable[[State], bool]) -> None:
        def change(state: State) -> State:
            if state.id != lease_id or not self._held(state) or not allowed(state):
                raise LeaseExpired(f"{self.path}: the lease is over")
            return self._hold(state, lease_id, node, ttl)

        self._change(change)

    def _hold(self, state: State, lease_id: str, node: PrimaryInfo, ttl: float) -> State:
        expires = self._clock() + ttl
        return replace(state, id=lease_id, hostname=node.hostname, advertise_url=node.advertise_url, expires=expires)

    def _held(self, state: State) -> bool:
        return bool(state.id) and self._clock() < state.expires + self._skew

    def _change(self, change: Callable[[State], State]) -> None:
        with self._named_errors(), open(f"{self.path}.lock", "a") as lock:
            self._lock(lock.fileno())
            before = self._read()
            after = change(before)
            if after != before:
                self._write(after)

    def _lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_LIMIT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LeaseUnavailable(f"{self.path}.lock: locked for more than {LOCK_LIMIT:g} s") from None
                time.sleep(0.005)
            else:
                return

    def _read(self) -> State:
        try:
            with open(self.path, encoding="utf-8") as file:
                return State(**json.load(file))
        except FileNotFoundError:
            return State()
        except (ValueError, TypeError):
            raise LeaseUnavailable(f"{self.path}: not a lease file", "remove it, or name another") from None

    def _write(self, state: State) -> None:
        new = f"{self.path}.new"
        with open(new, "w", encoding="utf-8") as file:
            json.dump(vars(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except LeaseError:
            raise
        except OSError as error:
            raise LeaseUnavailable(f"{self.path}: {error.strerror}") from error
