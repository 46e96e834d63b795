"""What a node says of itself and its databases: ``GET /status``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from litefs import __version__
from litefs.ltx import Pos

if TYPE_CHECKING:
    from litefs.cluster.machine import RoleMachine
    from litefs.cluster.members import Members
    from litefs.cluster.role import Role
    from litefs.cluster.term import Terms
    from litefs.leases import Leaser
    from litefs.replication.server import StreamServer
    from litefs.store import Store

Json = dict[str, object]

NOWHERE = Pos(0, 0)


class Status:
    """Gathers it.

    Args:
        not_ready: why the node cannot serve applications yet; empty once it can.
    """

    def __init__(
        self,
        store: Store,
        role: Role,
        leaser: Leaser,
        machine: RoleMachine,
        streams: StreamServer,
        members: Members,
        terms: Terms,
        *,
        not_ready: Callable[[], str],
    ) -> None:
        self._store = store
        self._role = role
        self._leaser = leaser
        self._machine = machine
        self._streams = streams
        self._members = members
        self._terms = terms
        self._not_ready = not_ready

    async def __call__(self, *, databases: bool = True) -> Json:
        """The status as JSON; without `databases` only how many transactions they have in all."""
        positions = await self._store.positions()
        reason = self._not_ready()
        found: Json = {
            "id": f"{self._store.node_id:016X}",
            "hostname": self._role.hostname,
            "advertiseURL": self._leaser.advertise_url,
            "version": __version__,
            "clusterID": self._store.cluster_id,
            "role": self._role_name(),
            "candidate": self._role.candidate,
            "eligible": self._machine.eligible,
            "ready": not reason,
            "reason": reason,
            "primary": self._primary(),
            "lagMs": self._role.lag_ms(),
            "leaseRemainingMs": self._lease_remaining_ms(),
            "leaseType": self._leaser.type,
            "term": self._terms.held,
            "transactions": sum(pos.txid for pos in positions.values()),
            "members": self._other_nodes(),
            **{key: value() if callable(value) else value for key, value in self._role.announced.items()},
        }
        if databases:
            known = {**dict.fromkeys(self._store.failed, NOWHERE), **positions}  # the first commit may have failed
            found["databases"] = {name: self._database(name, pos) for name, pos in sorted(known.items())}
        return found

    def _role_name(self) -> str:
        if self._role.is_primary:
            return "primary"
        return "replica" if self._role.primary is not None else "looking"

    def _primary(self) -> Json | None:
        if self._role.is_primary:
            return {"hostname": self._role.hostname, "advertiseURL": self._leaser.advertise_url}
        primary = self._role.primary
        return {"hostname": primary.hostname, "advertiseURL": primary.advertise_url} if primary is not None else None

    def _lease_remaining_ms(self) -> int | None:
        remaining = self._machine.lease_remaining
        return None if remaining is None or remaining == math.inf else int(remaining * 1000)

    def _database(self, name: str, published: Pos) -> Json:
        """One that nobody has opened since start has no more to tell than its position."""
        db = self._store.opened(name)
        pos = db.pos if db is not None else published
        return {
            "txid": f"{pos.txid:016x}",
            "checksum": f"{pos.checksum:016x}",
            "published": f"{published.txid:016x}",
            "pageSize": db.page_size if db is not None else None,
            "pages": db.commit if db is not None else None,
            "halted": db is not None and db.halt is not None,
            "failed": db is not None and db.disk.failed,
        }

    def _other_nodes(self) -> list[Json]:
        """Those this node has heard of, and those connected to it that have not said where they are."""
        peers = self._streams.peers
        known = self._members.others
        found = [{**member.as_json(), "connected": self._is_connected(member.id, member.advertise_url)}
                 for member in known]  # fmt: skip
        strangers = set(peers) - {member.id for member in known}
        for node_id in sorted(strangers):
            member = peers[node_id].member
            found.append(
                {
                    "id": f"{node_id:016X}",
                    "hostname": member.hostname if member is not None else "",
                    "advertiseURL": "",
                    "candidate": member.candidate if member is not None else None,
                    "connected": True,
                }
            )
        return found

    def _is_connected(self, node_id: int, url: str) -> bool:
        primary = self._role.primary
        return node_id in self._streams.peers or (
            primary is not None and primary.advertise_url == url and self._role.synced.is_set()
        )
