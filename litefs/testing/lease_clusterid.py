"""Checks of lease backends: keeping the cluster's id."""

from __future__ import annotations

import functools
import unittest

import trio

from litefs.leases import ClusterIDConflict, Leaser
from litefs.testing.lease_suite import LeaseSuite, refused

CLUSTER_ID = "LFSC0123456789ABCDEF"
OTHER_CLUSTER_ID = "LFSCFEDCBA9876543210"


class ClusterIDChecks(LeaseSuite):
    """Stored once and for all."""

    async def check_cluster_id(self) -> None:
        """The cluster id is stored once and for all; a lease that comes and goes does not matter."""
        async with self._nodes("one", "two") as (one, two):
            assert await one.cluster_id() is None
            lease = await one.acquire()
            await one.set_cluster_id(CLUSTER_ID)
            await one.set_cluster_id(CLUSTER_ID)
            await lease.release()
            if not self.stores_cluster_id:
                assert await two.cluster_id() is None
                return
            assert await two.cluster_id() == CLUSTER_ID
            await refused(functools.partial(two.set_cluster_id, OTHER_CLUSTER_ID), ClusterIDConflict)
            assert await one.cluster_id() == CLUSTER_ID

    async def check_cluster_id_is_set_once(self) -> None:
        """Of nodes that store different ids at the same moment one succeeds, and the others learn whose id it is."""
        if not self.stores_cluster_id:
            raise unittest.SkipTest("the cluster id is not stored")
        async with self._nodes(*(f"node{number}" for number in range(6))) as leasers:
            stored: list[str] = []
            conflicts: list[str] = []

            async def store(leaser: Leaser, cluster_id: str) -> None:
                try:
                    await leaser.set_cluster_id(cluster_id)
                    stored.append(cluster_id)
                except ClusterIDConflict as error:
                    conflicts.append(error.existing)

            async with trio.open_nursery() as nursery:
                for number, leaser in enumerate(leasers):
                    nursery.start_soon(store, leaser, f"LFSC{number:016X}")
            assert len(stored) == 1
            assert conflicts == stored * (len(leasers) - 1)
            for leaser in leasers:
                assert await leaser.cluster_id() == stored[0]
