"""On Fly: tells the platform this machine's role, as metadata ``role`` of the machine (``primary`` or ``replica``)."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping

import trio

from litefs.extensions import RunningNode

log = logging.getLogger(__name__)

SOCKET = "/.fly/api"
LIMIT = 2.0  # seconds for one request
TRIES = 6
PAUSE = 1.0  # seconds between two
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3}) ")


class RoleMetadata:
    """Keeps the metadata true while the node runs. For information only: nothing waits for it.

    Args:
        app, machine: names of both, empty where unknown.
        socket: where the platform's API is.
    """

    def __init__(self, app: str, machine: str, socket: str = SOCKET) -> None:
        self._path = f"/v1/apps/{app}/machines/{machine}/metadata/role"
        self._known = bool(app and machine)
        self._socket = socket

    async def run(self, node: RunningNode, *, task_status: trio.TaskStatus[None]) -> None:
        """Tell it now and after each change of role, until cancelled."""
        log.info("host environment detected type=fly.io")
        task_status.started()
        if not self._known:
            log.info("cannot set environment metadata: FLY_MACHINE_ID is not set")
            await trio.sleep_forever()
        told = None
        while True:
            async with trio.open_nursery() as nursery:
                if told is not node.role.is_primary:
                    told = node.role.is_primary
                    nursery.start_soon(self._tell, "primary" if told else "replica")
                while told is node.role.is_primary:
                    await node.role.wait_change()
                nursery.cancel_scope.cancel()  # what is newer counts

    async def _tell(self, role: str) -> None:
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                await trio.sleep(PAUSE)
            try:
                with trio.fail_after(LIMIT):
                    status = await self._post(json.dumps({"value": role}).encode())
                if status in (200, 204):
                    return
                problem = f"code={status}"
            except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                problem = str(error) or type(error).__name__
        log.info("cannot set environment metadata: %s", problem)

    async def _post(self, body: bytes) -> int:
        head = f"POST {self._path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        async with await trio.open_unix_socket(self._socket) as stream:
            await stream.send_all(head.encode() + body)
            said = b""
            while b"\r\n" not in said and len(said) < 4096:
                piece = await stream.receive_some(4096)
                if not piece:
                    break
                said += piece
        found = _STATUS.match(said)
        return int(found[1]) if found else 0


def on_fly(environment: Mapping[str, str]) -> RoleMetadata | None:
    """The service, where the environment says that this is Fly."""
    app = environment.get("FLY_APP_NAME", "")
    return RoleMetadata(app, environment.get("FLY_MACHINE_ID", "")) if app else None
