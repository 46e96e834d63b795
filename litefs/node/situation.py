"""What the node is in its cluster, for its commands (`litefs.supervisor.policies.Situation`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from litefs.cluster.role import Role
from litefs.extensions import ExecContext
from litefs.leases import PrimaryInfo


class Situation:
    """Read from the node's role, which is there once the node has begun to start."""

    def __init__(self) -> None:
        self._role: Role | None = None
        self._wait_done: Callable[[PrimaryInfo], Awaitable[None]] | None = None

    def begin(self, role: Role, wait_done: Callable[[PrimaryInfo], Awaitable[None]]) -> None:
        """Now there is a role to read from.

        Args:
            role: the node's.
            wait_done: waits until a remote primary is ready and this node has what it wrote until then.
        """
        self._role, self._wait_done = role, wait_done

    def context(self) -> ExecContext:
        """As in `litefs.supervisor.policies.Situation`, like the rest."""
        role = self._known()
        return ExecContext(
            role.hostname, role.candidate, role.is_primary and not role.is_yielding, role.primary_hostname
        )

    async def wait_change(self) -> None:
        """Wait until the role has changed."""
        await self._known().wait_change()

    async def primary_done(self) -> bool:
        """Wait for the present primary, if there is one; False as soon as the role has changed meanwhile."""
        done = False

        async def follow(scope: trio.CancelScope) -> None:
            nonlocal done
            if (primary := self._known().primary) is not None and self._wait_done is not None:
                await self._wait_done(primary)
                done = True
                scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, nursery.cancel_scope)
            await self.wait_change()
            nursery.cancel_scope.cancel()
        return done

    def _known(self) -> Role:
        assert self._role is not None, "commands run on nodes that have begun to start"
        return self._role
