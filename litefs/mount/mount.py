"""Making, serving and removing the mount."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import pyfuse3
import trio

from litefs.errors import MountError
from litefs.mount import kernel, quiet, readloop
from litefs.mount.attributes import DATABASE_TIME
from litefs.mount.operations import Operations
from litefs.mount.special import Role
from litefs.store.store import Store

log = logging.getLogger(__name__)

OPEN_GRACE = 1.0  # seconds for applications to close their files
LOOK_INTERVAL = 0.05  # seconds between two looks whether they have
AWAKE = 300e-6  # seconds the loop stays awake after the last write, with busy_poll


@dataclass(frozen=True, slots=True)
class Options:
    """How to mount.

    Attributes:
        allow_other: whether other users may use it.
        debug: log every request (libfuse does, to stderr).
        busy_poll: stay awake between the writes of a transaction. Gains a little on an idle machine with a processor
            to spare, and costs a third of the commits on a busy one.
    """

    allow_other: bool = False
    debug: bool = False
    busy_poll: bool = False


class Mount:
    """The FUSE mount of a store. One a process: pyfuse3 keeps its session in the module."""

    def __init__(
        self, store: Store, role: Role, directory: str | os.PathLike[str], options: Options | None = None
    ) -> None:
        self.directory = Path(os.path.abspath(directory))
        self._options = options or Options()
        self._operations = Operations(store, role)
        self._open = False
        self._unmounted = False

    def open(self) -> None:
        """Mount. A mount that a dead daemon left behind is removed first.

        Raises:
            MountError: FUSE or the directory is not usable; says what to do.
        """
        kernel.check_fuse()
        kernel.clean_stale(self.directory)
        self._check_directory()
        options = {"fsname=litefs"}
        if self._options.allow_other:
            options.add("allow_other")
        if self._options.debug:
            options.add("debug")
        try:
            pyfuse3.init(self._operations, str(self.directory), options)
        except RuntimeError as error:
            hint = "see the line above"
            if self._options.allow_other and os.geteuid() != 0:
                hint = "fuse.allow-other needs user_allow_other in /etc/fuse.conf"
            raise MountError(f"cannot mount {self.directory}: {error}", hint) from None
        self._operations.mounted()
        self._open = True

    def _check_directory(self) -> None:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if hidden := os.listdir(self.directory):  # an application that came too early leaves an empty file
                log.warning("%s is not empty: the mount hides %s", self.directory, ", ".join(sorted(hidden)[:5]))
        except OSError as error:
            raise MountError(
                f"cannot use {self.directory} as mount point: {error.strerror}", "check fuse.dir"
            ) from None

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer requests until cancelled, or until somebody unmounts the directory."""
        async with trio.open_nursery() as nursery:
            if self._options.busy_poll:
                nursery.start_soon(self._stay_awake)
            readloop.install()
            quiet.install()
            task_status.started()
            await pyfuse3.main(min_tasks=4)
            nursery.cancel_scope.cancel()

    async def _stay_awake(self) -> None:
        """Keep the loop from sleeping right after a write: the next one is mostly some 30 us away."""
        operations = self._operations
        while True:
            await operations.active.wait()
            while trio.current_time() - operations.last_request < AWAKE:
                await trio.lowlevel.checkpoint()
            operations.active = trio.Event()

    def shut(self) -> None:
        """Have applications open nothing any more."""
        self._operations.closing = True

    async def leave(self) -> None:
        """Unmount once no file is open, or after a moment all the same; what is open is served until then.

        Nothing may lead from an open database to files that lie at its path once the mount is gone: an application that
        opened its log there would have its commits acknowledged by nobody. So nothing is opened meanwhile, and what
        stays open can be read no more when the path goes.

        Raises:
            MountError: it stays mounted; says why.
        """
        self.shut()
        with trio.move_on_after(OPEN_GRACE):
            while not await trio.to_thread.run_sync(kernel.try_unmount, self.directory):
                await trio.sleep(LOOK_INTERVAL)
            self._unmounted = True
            return
        self._operations.closed = True
        await trio.sleep(DATABASE_TIME * 1.2)
        await trio.to_thread.run_sync(kernel.unmount, self.directory)
        self._unmounted = True

    def close(self) -> None:
        """Unmount, even while applications have files open: they get an error from then on."""
        if self._open:
            self._open = False
            pyfuse3.close(unmount=not self._unmounted)

    @staticmethod
    def clean_stale(directory: str | os.PathLike[str]) -> bool:
        """Remove a dead mount; whether there was one. Raises `MountError`."""
        return kernel.clean_stale(Path(os.path.abspath(directory)))
