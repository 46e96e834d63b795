"""What a node is to other machines: its API, its streams, its part in the cluster.

All of this can come up after the mount, and its imports (HTTP server, numpy, metrics) take longer than everything
before it. So the module is imported in a thread while the mount serves already.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import trio

from litefs.cluster.halt import Halts
from litefs.cluster.machine import RoleMachine
from litefs.cluster.members import Members
from litefs.cluster.peers import Peers
from litefs.cluster.remote import RemoteHalts
from litefs.cluster.role import Role
from litefs.cluster.status import Status
from litefs.cluster.term import Terms
from litefs.config import Config
from litefs.http.address import is_loopback
from litefs.http.app import build
from litefs.http.security import warn_if_open
from litefs.http.serve import serve
from litefs.http.services import Services
from litefs.http.sessions import Sessions
from litefs.http.tls import client_context, server_context
from litefs.leases import Leaser, PrimaryInfo
from litefs.node.following import wait_done
from litefs.replication.client import ReplicationClient
from litefs.replication.server import StreamServer
from litefs.sqlite.walsum import page_summer
from litefs.store.store import Store

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


page_summer(4096, big_endian=False)  # brings numpy, here in a thread: the first WAL commit would wait for it


class Network:
    """The node's side of the network.

    Args:
        not_ready: why the node cannot serve applications yet; empty once it can.
        unsettled: whether its databases may not all be there yet.
        collectors: metrics of plugins.
    """

    def __init__(
        self,
        config: Config,
        store: Store,
        role: Role,
        leaser: Leaser,
        *,
        not_ready: Callable[[], str],
        unsettled: Callable[[], bool],
        collectors: Iterable[Collector],
    ) -> None:
        self._config = config
        http, lease = config.http, config.lease
        streams = StreamServer(store, snapshot_limit=http.snapshot_timeout or config.data.retention)
        streams.unsettled = unsettled
        tls = _trusted(config)
        self._peers = Peers(store.node_id, token=http.auth_token, tls=tls)
        members = Members(store.data_dir / "members.json", lambda: self.machine.introduction)
        streams.joined = lambda member: members.learn([member])
        members.changed = lambda: streams.announce(members.announcement())
        role.others = lambda: [PrimaryInfo(other.hostname, other.advertise_url) for other in members.others]
        terms = Terms(store.data_dir, lambda: store.cluster_id)
        client = ReplicationClient(
            store,
            role,
            databases=lease.databases,
            token=http.auth_token,
            tls=tls,
            introduce=lambda: self.machine.introduction,
            learned=members.told,
            terms=terms,
        )
        self.machine = RoleMachine(
            store,
            role,
            leaser,
            streams,
            client,
            peers=self._peers,
            members=members,
            terms=terms,
            reconnect_delay=lease.reconnect_delay,
            demote_delay=lease.demote_delay,
        )
        status = Status(store, role, leaser, self.machine, streams, members, terms, not_ready=not_ready)
        self.halts = Halts(store, role)
        self.remote = store.remote = RemoteHalts(store, role, self._peers)
        self._role = role
        self._services = self._api(
            store,
            streams,
            status,
            url=leaser.advertise_url,
            lags=client.lags,
            not_ready=not_ready,
            collectors=collectors,
        )
        self._tls = server_context(http.tls_cert, http.tls_key, http.tls_client_ca) if http.secure else None

    def _api(
        self,
        store: Store,
        streams: StreamServer,
        status: Status,
        *,
        url: str,
        lags: Mapping[str, float],
        not_ready: Callable[[], str],
        collectors: Iterable[Collector],
    ) -> Services:
        """What the HTTP API gets; `url` is this node's own."""
        http = self._config.http
        return Services(
            store,
            self._role,
            streams,
            self.machine,
            status,
            self.halts,
            not_ready=not_ready,
            collectors=collectors,
            token=http.auth_token,
            exempt=http.auth_exempt,
            sessions=Sessions(f"litefs-{store.node_id:016X}", secure=http.secure),
            names={socket.gethostname(), self._role.hostname, urlsplit(url).hostname or ""},
            secure=http.secure,
            lags=lags,
        )

    async def serve(self, listener: socket.socket, *, task_status: trio.TaskStatus[None]) -> None:
        """Answer requests until told to :meth:`leave`."""
        app = build(self._services)
        warn_if_open(self._config.http.auth_token, is_loopback(listener), self._config.http.addr)
        await serve(app, [listener], self._services.closing.wait, tls=self._tls, task_status=task_status)

    async def primary_done(self, primary: PrimaryInfo) -> None:
        """Wait until a primary is ready, and this node has what it wrote until then."""
        await wait_done(self._peers, self._role, primary)

    async def leave(self, ended: trio.Event) -> None:
        """End event streams and idle connections; requests under way get a moment."""
        self._services.closing.set()
        await ended.wait()


def _trusted(config: Config) -> ssl.SSLContext | None:
    """How other nodes are verified; None where TLS plays no part, and addresses may be plain http."""
    http = config.http
    return client_context(http.tls_ca, http.tls_cert, http.tls_key) if http.secure or http.tls_ca else None
