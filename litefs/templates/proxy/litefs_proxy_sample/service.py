"""The proxy as a part of a node: it lives as long as the node does."""

from __future__ import annotations

import trio

from litefs.extensions import RunningNode
from litefs.http.address import bind


class SampleProxy:
    """Forwards requests to the application, and sends those that write to the primary.

    Args:
        address: where to listen, as in ``proxy.addr``.
        host, port: where the application listens.
        retry_after: seconds that clients are told to wait while there is no primary.
    """

    grace = 5.0  # seconds that requests under way get when the node stops

    def __init__(self, address: str, host: str, port: int, *, retry_after: float) -> None:
        self._address = address
        self._target = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._retry_after = retry_after
        self._leaving = trio.Event()

    async def run(self, node: RunningNode, *, task_status: trio.TaskStatus[None]) -> None:
        """Serve until cancelled, or asked to leave.  Raises ListenError where the address cannot be used."""
        from litefs.http.serve import serve  # late: the node has its mount by now
        from litefs_proxy_sample.application import Application

        listener = bind(self._address, "proxy.addr")
        port = listener.getsockname()[1]
        async with Application(self._target, node.role, port, retry_after=self._retry_after) as application:
            await serve(application, [listener], self._leaving.wait, grace=self.grace, task_status=task_status)

    async def leave(self, ended: trio.Event) -> None:
        """Take no more connections and let the requests under way end; the node waits, but not longer than `grace`."""
        self._leaving.set()
        await ended.wait()
