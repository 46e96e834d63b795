"""A node that died as primary takes its lease up again when it comes back in time; in virtual time."""

from __future__ import annotations

from pathlib import Path

from litefs.cluster.kept import KeptLease

from .fakes import Cluster, Node, until
from .running import run, running


def kept(node: Node) -> KeptLease:
    return KeptLease(node.store.data_dir / "lease")


async def died_as_primary(node: Node) -> None:
    """What a former life of the node has left: in the backend, and in its data directory."""
    lease = await node.leaser.acquire()
    kept(node).save(lease.id)


def test_it_leads_at_once(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        await died_as_primary(a)
        async with running(b, a):
            await until(lambda: a.store.writable, 0.5)
            assert cluster.backend.sessions == 1, "another lease"
            assert kept(a).id is not None
            await until(b.role.ready.is_set)
            assert not b.store.writable
        assert kept(a).id is None, "it was given up in good order"

    run(main)


def test_a_lease_that_is_over_is_forgotten(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        await died_as_primary(a)
        cluster.backend.holder = None
        async with running(b, a):
            await until(lambda: b.store.writable and a.role.ready.is_set())
            assert not a.store.writable
            assert cluster.backend.sessions == 2

    run(main)


def test_nobody_keeps_what_was_handed_on(cluster: Cluster) -> None:
    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        async with running(a, b):
            await until(lambda: a.store.writable and b.role.ready.is_set())
            lease_id = kept(a).id
            assert lease_id is not None
            await a.machine.handoff(b.store.node_id)
            assert kept(a).id is None, "before anybody else could have it"
            await until(lambda: b.store.writable)
            assert kept(b).id == lease_id
            assert kept(a).id is None

    run(main)


def test_only_its_own_lease_is_taken(cluster: Cluster) -> None:
    """A data directory that was copied to another node, or a lease that was handed on after all."""

    async def main() -> None:
        a, b = cluster.node("a"), cluster.node("b")
        lease = await a.leaser.acquire()
        kept(b).save(lease.id)
        async with running(a, b):
            await until(lambda: cluster.backend.sessions == 1 and b.follower is not None)
            assert not b.store.writable

    run(main)


def test_the_file_is_for_nobody_else(tmp_path: Path) -> None:
    lease = KeptLease(tmp_path / "lease")
    assert lease.id is None
    lease.save("secret")
    assert (lease.id, (tmp_path / "lease").stat().st_mode & 0o777) == ("secret", 0o600)
    lease.forget()
    lease.forget()
    assert lease.id is None
