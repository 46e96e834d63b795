"""Machines at work in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from tests.support import virtualtime

from .fakes import Node


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test under the virtual clock, an hour at most."""

    async def limited() -> None:
        with trio.fail_after(3600):
            await test()

    virtualtime.run(limited)


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[dict[Node, trio.CancelScope]]:
    """The nodes' machines at work; cancel a scope for a node that crashes."""
    scopes: dict[Node, trio.CancelScope] = {}

    async def work(node: Node) -> None:
        node.running, node.ended = True, trio.Event()
        with trio.CancelScope() as scopes[node]:
            await node.machine.run()
        node.running = False
        node.ended.set()

    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(work, node)
            await trio.testing.wait_all_tasks_blocked()
        yield scopes
        nursery.cancel_scope.cancel()


def crash(node: Node, scope: trio.CancelScope) -> None:
    """The node is gone, and its lease stays until it runs out."""
    node.leaser.backend.lost()
    scope.cancel()


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged."""
    return [record.getMessage() for record in caplog.records]
