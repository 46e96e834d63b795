"""The clusters of a server: each has a vault, of which this process is the writer. All of it blocks."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from litefs_backup_store.caretaker import Caretaker
from litefs_backup_store.levels import Levels
from litefs_backup_store.objects import ObjectChanged, ObjectMissing, Objects, StorageError
from litefs_backup_store.vault import Vault

from litefs import jsontext

log = logging.getLogger(__name__)

IDENTITY = "cluster.json"
SILENT = 60.0
"""Seconds without a request after which a cluster counts as gone; its primary asks every 10."""

PATIENCE = 60.0
"""Seconds for maintenance to end before a cluster is erased."""


class OtherCluster(Exception):
    """The request comes from another cluster than the one whose backup this is."""

    def __init__(self, expected: str) -> None:
        super().__init__(f'cluster id mismatch, expecting "{expected}"')


class ClusterGone(Exception):
    """The cluster is being deleted."""


class Cluster:
    """A cluster's backup, open for writing.

    Args:
        now: seconds of a clock that only goes forward.

    Attributes:
        heard: when a node of the cluster asked for something last, seconds since the epoch.
        claimant: the id of another cluster that was refused last, and when, seconds since the epoch.
        fetched: by database: the transaction up to which a node fetched it last, and when, seconds since the epoch.
        restored: by database: the transaction that was put there last by a person, and when.
    """

    def __init__(self, vault: Vault, caretaker: Caretaker, *, now: Callable[[], float] = time.monotonic) -> None:
        self.vault = vault
        self.caretaker = caretaker
        self._now = now
        self.cluster_id, self._version = _identity(vault.objects)
        self._heard = now()  # from the cluster of that id; as far as we know, just before we came
        self.heard: float | None = None
        self.claimant: tuple[str, float] | None = None
        self.fetched: dict[str, tuple[int, float]] = {}
        self.restored: dict[str, tuple[int, float]] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._gone = False
        self._changes = 0

    def check_id(self, given: str) -> None:
        """The backup belongs to the cluster that asked first, as long as it goes on asking.

        A cluster that was lost, and made anew, has another id: it gets the backup when the former one is silent.

        Raises:
            OtherCluster: it is another one's.
        """
        if not given:
            return
        if given != self.cluster_id:
            if self.cluster_id and self._now() - self._heard < SILENT:
                self.claimant = given[:64], time.time()
                raise OtherCluster(self.cluster_id)
            self._pass_on(given)
        self._heard, self.heard = self._now(), time.time()

    def hand_over(self, to: str) -> None:
        """Give the backup to the cluster that was refused, although the former one may still be there.

        Raises:
            OtherCluster: it is not the one that was refused last.
        """
        if self.claimant is None or self.claimant[0] != to:
            raise OtherCluster(self.cluster_id)
        self._pass_on(to)
        self._heard, self.claimant = self._now(), None

    def lock(self, database: str) -> threading.Lock:
        """Held by whoever adds to a database: a restore must not lose the race against nodes that upload on and on."""
        return self._locks.setdefault(database, threading.Lock())

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Held by whoever changes the backup. Raises ClusterGone. To be used in one thread only, as `retire` is."""
        self.check_there()
        self._changes += 1
        try:
            yield
        finally:
            self._changes -= 1

    def check_there(self) -> None:
        """Raises ClusterGone once the cluster is being deleted."""
        if self._gone:
            raise ClusterGone

    def retire(self) -> bool:
        """Begin no more changes; whether none is under way."""
        self._gone = True
        return not self._changes

    def close(self) -> None:
        """Stop looking after it."""
        self.caretaker.close()
        self.vault.objects.close()

    def _pass_on(self, given: str) -> None:
        if self.cluster_id:
            log.warning("the backup of cluster id %s goes to %s", self.cluster_id, given)
        try:
            self._version = self.vault.objects.replace(
                IDENTITY, json.dumps({"clusterID": given}).encode(), self._version
            )
            self.cluster_id = given
        except ObjectChanged:
            self.cluster_id, self._version = _identity(self.vault.objects)
            if self.cluster_id != given:
                raise OtherCluster(self.cluster_id) from None


def _identity(objects: Objects) -> tuple[str, str | None]:
    """The cluster's id, empty before the first one came, and the version of its object."""
    try:
        data, version = objects.get(IDENTITY)
        return str(jsontext.loads(data)["clusterID"]), version
    except ObjectMissing:
        return "", None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{IDENTITY} is damaged: {error}") from error


class Clusters:
    """Opens clusters when they are asked for.

    Args:
        place: from a cluster's name to where its backup is kept.
        levels: what is kept for how long.
        opened: told the name of each cluster that is opened.
    """

    def __init__(
        self, place: Callable[[str], Objects], levels: Levels, opened: Callable[[str], object] = lambda name: None
    ) -> None:
        self._place = place
        self._levels = levels
        self._opened = opened
        self._open: dict[str, Cluster] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Cluster:
        """The cluster of that name. Raises StorageError."""
        with self._lock:
            found = self._open.get(name)
            if found is None:
                vault = Vault(self._place(name), writer="litefs cloud serve")
                vault.claim()
                found = Cluster(vault, Caretaker(vault, self._levels))
                found.caretaker.start(vault.positions())
                self._opened(name)
                self._open[name] = found
            return found

    def remove(self, name: str) -> None:
        """Erase a cluster that has retired. Raises StorageError: call it again."""
        cluster = self.get(name)
        cluster.caretaker.close(wait=PATIENCE)
        cluster.vault.erase()
        cluster.vault.objects.delete([IDENTITY])
        with self._lock:
            self._open.pop(name).close()

    def close(self) -> None:
        """Stop looking after all of them."""
        for cluster in self._open.values():
            cluster.close()
