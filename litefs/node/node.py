"""The node itself: which part comes up when, what it waits for, and what a signal does to it.

The mount must be there within 0.3 seconds of the start of the process, and importing takes most of that time. So this
module and what it imports bring the mount up and nothing else; what comes after is `litefs.node.network`, imported in
a thread while the mount serves already.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import trio

from litefs import plugins as installed
from litefs.assembly import make_backup, make_leaser, make_proxy, make_services, node_info
from litefs.cluster.role import Role
from litefs.config import Config
from litefs.datalock import locked
from litefs.errors import LeaseError, LitefsError
from litefs.extensions import Backup, Service
from litefs.http.address import bind
from litefs.lifecycle import Lifecycle, at_once, unwrap
from litefs.mount import Mount, Options
from litefs.node.situation import Situation
from litefs.plugins import Plugins
from litefs.store.store import Store
from litefs.supervisor import Command, Policies, Supervisor, from_entry, say, signals
from litefs.systemd import notify

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from litefs.cluster.machine import RoleMachine
    from litefs.leases import Leaser
    from litefs.node.network import Network

log = logging.getLogger(__name__)

LEASE_GRACE = 25.0  # seconds to hand the lease over; each step of it has a limit of its own
HTTP_GRACE = 2.0  # seconds for requests under way, and for a connection that is busy with a stream's last frames
MOUNT_GRACE = 2.0  # seconds for applications to close their files, and for requests under way after that
SERVICE_GRACE = 5.0  # seconds for a plugin's service that wants to leave in an orderly way
PUBLISH_LIMIT = 5.0  # seconds until what the commands that come first wrote is on its way to replicas
STORE_GRACE = 60.0  # seconds to leave the databases as they should lie on disk; if they end, the next start does it
PROMOTE_LIMIT = 30.0  # seconds for a take-over at start, from the primary's consent on


class Node:
    """A node on a configuration.

    Args:
        config: the whole litefs.yml.
        commands: what to run instead of ``exec``.
        plugins: where leases and the rest come from; the installed ones by default.

    Attributes:
        store, role: there once the node has begun to start; services of plugins use them.
    """

    store: Store
    role: Role

    def __init__(
        self, config: Config, *, commands: Sequence[Command] | None = None, plugins: Plugins | None = None
    ) -> None:
        self.config = config
        self.plugins = plugins or installed.load()
        if commands is None:
            commands = [from_entry(entry) for entry in config.exec]
        self._situation = Situation()
        self._supervisor = Supervisor(commands, policies=Policies(self._situation, self.plugins), say=say)
        self._life = Lifecycle()
        self._not_ready = "starting"
        self._unsettled = False
        self._signalled = False
        self._proxies = AsyncExitStack()

    async def run(self) -> int:
        """Live until a signal comes, the supervised command ends, or something fails; the exit code.

        Must run in the main thread, which is where Python has signals. Raises what failed, once everything is down.
        """
        await self._life.run(self._live)
        say("litefs shut down complete")
        return self._supervisor.exit_code or 0

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            watch = partial(signals.watch, self._on_stop, self._supervisor.pass_on)
            await stack.enter_async_context(self._life.part("signals", watch))
            try:
                await self._work(stack)
            finally:
                self._leaving()

    async def _work(self, stack: AsyncExitStack) -> None:
        """Start, and return when the supervised command has ended. What was started is left to the stack."""
        try:
            await self._start(stack)
            if await self._supervisor.prepare(self._waiting):
                await self._settle()
            if await self._supervisor.run(self._up) is None:
                await trio.sleep_forever()
        except Exception as error:
            if self.config.exit_on_error:
                raise
            await self._stay_after(unwrap(error))

    async def _settle(self) -> None:
        """Replicas take this node's being ready for the arrival of all that the first commands wrote."""
        with trio.move_on_after(PUBLISH_LIMIT) as limit:
            await self.store.all_published()
        if limit.cancelled_caught:
            log.warning("not everything is published %g s after the first commands: is it written to?", PUBLISH_LIMIT)

    async def _stay_after(self, error: Exception) -> None:
        log.error("start failed: %s", error, exc_info=not isinstance(error, (LitefsError, OSError)))
        log.info("exit-on-error is false: staying until a signal comes")
        self._waiting(f"start failed: {error}")
        self._unsettled = False
        await self._proxies.aclose()
        await trio.sleep_forever()

    # -------------------------------------------------------------------------------------------------- being asked

    def _on_stop(self, number: int) -> None:
        if self._life.stopped:
            self._supervisor.hurry()
            self._life.hurry()
        else:
            self._signalled = True
            self._supervisor.stop = signals.received(number)
            self._stopping()
            self._life.stop()

    def _stopping(self) -> None:
        self._not_ready = "stopping"
        notify(STOPPING="1", STATUS="stopping")

    def _up(self) -> None:
        self._not_ready = ""
        notify(READY="1", STATUS="running")
        say("waiting for signal or subprocess to exit")

    def _leaving(self) -> None:
        self._stopping()
        code = self._supervisor.exit_code
        if self._signalled:
            say("signal received, litefs shutting down")
        elif code is not None:
            how = f"with error code {code}" if code else "successfully"
            say(f"subprocess exited {how}, litefs shutting down")

    def _waiting(self, reason: str) -> None:
        self._not_ready = reason
        notify(STATUS=reason)

    # ------------------------------------------------------------------------------------------------- coming up

    async def _start(self, stack: AsyncExitStack) -> None:
        # What goes wrong most often first, before anything is touched: a taken port, another daemon.
        listener = stack.enter_context(bind(self.config.http.addr))
        stack.enter_context(locked(self.config.data.dir))
        info = node_info(self.config, listener.getsockname()[1])
        leaser = make_leaser(self.plugins, self.config, info)
        stack.push_async_callback(leaser.aclose)
        backup = make_backup(self.plugins, self.config, info)
        proxy = make_proxy(self.plugins, self.config, info)
        services = make_services(self.plugins, self.config, info)

        await self._open_store(stack)
        self.role = Role(leaser.hostname, candidate=self.config.lease.candidate, events=self.store.events)
        self._unsettled = backup is not None and not self.config.skip_sync
        await self._open_mount(stack)
        machine = await self._open_network(stack, listener, leaser, backup)
        for name, service in services.items():
            await self._serve(stack, name, service)
        if backup is not None:
            await self._serve(stack, "backup", backup)
        if not self.config.skip_sync:
            await self._join(machine)
            if backup is not None:
                self._waiting("waiting for the backup to restore databases")
                await backup.wait_restored()
                self._unsettled = False
        await stack.enter_async_context(self._proxies)
        if proxy is not None:
            await self._serve(self._proxies, "proxy", proxy)

    async def _open_store(self, stack: AsyncExitStack) -> None:
        data = self.config.data
        self.store = Store(
            data.dir,
            self.config.fuse.dir,
            compress=data.compress,
            retention=data.retention,
            retention_interval=data.retention_monitor_interval,
            backup=bool(self.config.backup.type),
            capture_unjournaled=self.config.fuse.unjournaled_writes == "capture",
        )
        stack.push_async_callback(self._close_store)
        await stack.enter_async_context(self._life.part("store", at_once(self.store.run)))

    async def _close_store(self) -> None:
        with self._life.patience(STORE_GRACE):
            await self.store.close()

    async def _open_mount(self, stack: AsyncExitStack) -> None:
        fuse = self.config.fuse
        mount = Mount(self.store, self.role, fuse.dir, Options(allow_other=fuse.allow_other, debug=fuse.debug))
        stack.callback(mount.close)
        mount.open()
        await stack.enter_async_context(
            self._life.part("mount", mount.serve, leave=partial(self._leave_mount, mount), grace=MOUNT_GRACE)
        )
        log.info("LiteFS mounted to: %s", fuse.dir)

    async def _leave_mount(self, mount: Mount, ended: trio.Event) -> None:
        # Requests that were under way, and files that are still open, are served meanwhile: a commit that was captured
        # is answered, not cut off. With no file open, the kernel ends the mount right away.
        mount.shut()
        await self.store.leave_mount()
        await mount.leave()
        await ended.wait()

    async def _open_network(
        self, stack: AsyncExitStack, listener: socket.socket, leaser: Leaser, backup: Backup | None
    ) -> RoleMachine:
        """Everything that may come up after the mount."""
        module = await trio.to_thread.run_sync(import_module, "litefs.node.network")
        collectors = [*self.plugins.metrics, *await trio.to_thread.run_sync(_collectors, backup)]
        network: Network = module.Network(
            self.config,
            self.store,
            self.role,
            leaser,
            not_ready=lambda: self._not_ready,
            unsettled=lambda: self._unsettled,
            collectors=collectors,
        )
        serve = partial(network.serve, listener)
        await stack.enter_async_context(self._life.part("http", serve, leave=network.leave, grace=HTTP_GRACE))
        log.info("http server listening on: %s", _url(self.config, listener))
        await stack.enter_async_context(self._life.part("halts", at_once(network.halts.run)))
        await stack.enter_async_context(self._life.part("remote halts", at_once(network.remote.run)))
        self._situation.begin(self.role, network.primary_done)
        self.role.conform = self._supervisor.conform
        await stack.enter_async_context(
            self._life.part("lease", at_once(network.machine.run), leave=network.machine.leave, grace=LEASE_GRACE)
        )
        return network.machine

    async def _serve(self, stack: AsyncExitStack, name: str, service: Service) -> None:
        leave, grace = getattr(service, "leave", None), getattr(service, "grace", SERVICE_GRACE)
        part = self._life.part(name, partial(service.run, self), leave=leave, grace=grace)
        await stack.enter_async_context(part)

    async def _join(self, machine: RoleMachine) -> None:
        """Wait until this node is primary or has caught up with one; take over if that is wanted."""
        self._waiting("waiting to connect to cluster")
        log.info("waiting to connect to cluster")
        await self.role.ready.wait()
        log.info("connected to cluster, ready")
        if self.config.lease.promote:
            await self._promote(machine)

    async def _promote(self, machine: RoleMachine) -> None:
        if not self.role.candidate:
            log.info("node is not a candidate, skipping automatic promotion")
            return
        self._waiting("waiting to become primary")
        log.info("node is a candidate, automatically promoting to primary")
        await machine.promote()
        with trio.move_on_after(PROMOTE_LIMIT):
            while not self.role.is_primary:
                await self.role.wait_change()
        if not self.role.is_primary:
            raise LeaseError(f"the primary agreed to hand over, but nothing came of it within {PROMOTE_LIMIT:.0f} s")


def _collectors(backup: Backup | None) -> Sequence[Collector]:
    """Metrics of the backup, where it has some. Blocking."""
    make = getattr(backup, "collectors", None)
    return () if make is None else make()


def _url(config: Config, listener: socket.socket) -> str:
    host = config.http.host or "localhost"
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if config.http.secure else 'http'}://{shown}:{listener.getsockname()[1]}"
