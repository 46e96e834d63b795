"""The conformance kit for backups: the one in memory passes, and broken ones do not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from litefs.ltx import Pos
from litefs.testing import BackupConformance, MemoryBackup


class TestMemory(BackupConformance):
    broken: type[MemoryBackup] = MemoryBackup

    def run_check(self, check: Callable[[], Awaitable[None]]) -> None:
        self.databases: dict[str, list[bytes]] = {}
        self.clients: list[MemoryBackup] = []
        super().run_check(check)

    async def client(self) -> MemoryBackup:
        self.clients.append(self.broken(self.databases))
        return self.clients[-1]

    @asynccontextmanager
    async def outage(self) -> AsyncIterator[None]:
        for client in self.clients:
            client.available = False
        yield
        for client in self.clients:
            client.available = True


class Gullible(MemoryBackup):
    """Takes whatever comes."""

    async def write(self, name: str, ltx: AsyncIterator[bytes]) -> int:
        data = b"".join([piece async for piece in ltx])
        self.databases.setdefault(name, []).append(data)
        return 1


class Forgetful(MemoryBackup):
    """Does not say what is deleted."""

    async def positions(self) -> dict[str, Pos]:
        return {name: pos for name, pos in (await super().positions()).items() if pos.checksum != 1 << 63}


class Alone(MemoryBackup):
    """Shares nothing with other clients."""

    def __init__(self, databases: dict[str, list[bytes]] | None = None) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (Gullible, "gap_is_refused"),
        (Gullible, "damage_is_refused"),
        (Gullible, "snapshot_over_history_is_refused"),
        (Forgetful, "deletion"),
        (Alone, "other_client_sees_it"),
    ],
)
def test_broken_ones_are_found(broken: type[MemoryBackup], check: str) -> None:
    suite = TestMemory()
    suite.broken = broken
    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it is that goes wrong
        getattr(suite, f"test_{check}")()
