"""The clusters of a server: each has a vault, of which this process is the writer. All of it blocks."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable

from litefs_backup_store.caretaker import Caretaker
from litefs_backup_store.levels import Levels
from litefs_backup_store.objects import ObjectChanged, ObjectMissing, Objects, StorageError
from litefs_backup_store.vault import Vault

log = logging.getLogger(__name__)

IDENTITY = "cluster.json"
SILENT = 60.0
"""Seconds without a request after which a cluster counts as gone; its primary asks every 10."""


class OtherCluster(Exception):
    """The request comes from another cluster than the one whose backup this is."""

    def __init__(self, expected: str) -> None:
        super().__init__(f'cluster id mismatch, expecting "{expected}"')


class Cluster:
    """A cluster's backup, open for writing.

    Args:
        now: seconds of a clock that only goes forward.
    """

    def __init__(self, vault: Vault, caretaker: Caretaker, *, now: Callable[[], float] = time.monotonic) -> None:
        self.vault = vault
        self.caretaker = caretaker
        self._now = now
        self.cluster_id, self._version = _identity(vault.objects)
        self._heard = now()  # from the cluster of that id; as far as we know, just before we came

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
                raise OtherCluster(self.cluster_id)
            self._pass_on(given)
        self._heard = self._now()

    def _pass_on(self, given: str) -> None:
        if self.cluster_id:
            log.warning("the backup of cluster id %s, of which nothing is heard, goes to %s", self.cluster_id, given)
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
        return str(json.loads(data)["clusterID"]), version
    except ObjectMissing:
        return "", None
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{IDENTITY} is damaged: {error}") from error


class Clusters:
    """Opens clusters when they are asked for.

    Args:
        place: from a cluster's name to where its backup is kept.
        levels: what is kept for how long.
    """

    def __init__(self, place: Callable[[str], Objects], levels: Levels) -> None:
        self._place = place
        self._levels = levels
        self._open: dict[str, Cluster] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Cluster:
        """The cluster of that name. Raises StorageError."""
        with self._lock:
            found = self._open.get(name)
            if found is None:
                objects = self._place(name)
                vault = Vault(objects, writer="litefs cloud serve")
                vault.claim()
                found = Cluster(vault, Caretaker(vault, self._levels))
                found.caretaker.start(vault.positions())
                self._open[name] = found
            return found

    def close(self) -> None:
        """Stop looking after all of them."""
        for cluster in self._open.values():
            cluster.caretaker.close()
            cluster.vault.objects.close()
