"""A replica waits for its primary's first commands: by the primary's readiness, and its clock."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from litefs.cluster.peers import PeerResponse
from litefs.cluster.role import Role
from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs.node.following import wait_done
from litefs.node.situation import Situation
from litefs.store.events import EventHub

P = PrimaryInfo("p", "http://p:20202")
DATE = {"date": "Sat, 21 Nov 2026 10:00:00 GMT"}
SECOND = 1_795_255_200_000  # the same, ms since the epoch


class FakePeers:
    """Answers in turn, the last one for good."""

    def __init__(self, *answers: PeerResponse | StreamError) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str]] = []

    async def request(self, method: str, url: str, path: str, *, timeout: float) -> PeerResponse:
        await trio.lowlevel.checkpoint()
        self.asked.append((method, url, path))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, StreamError):
            raise answer
        return answer


READY, BUSY = PeerResponse(200, DATE, b"ok\n"), PeerResponse(503, DATE, b"running x\n")


def run(peers: FakePeers, *heartbeats: int) -> list[int]:
    """The heartbeats, a second apart, that it took."""
    role = Role("me", candidate=True, events=EventHub())
    role.follow(P)
    role.heartbeat(SECOND + 90_000)  # of a former primary, whose clock is ahead
    seen: list[int] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:

            async def beat() -> None:
                for heartbeat in heartbeats:
                    await trio.sleep(1)
                    seen.append(heartbeat)
                    role.heartbeat(heartbeat)

            nursery.start_soon(beat)
            with trio.fail_after(30):
                await wait_done(peers, role, P)  # type: ignore[arg-type]
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    return seen


def test_only_a_heartbeat_from_after_the_answer_counts() -> None:
    before, after = SECOND + 999, SECOND + 1000
    peers = FakePeers(READY)
    assert run(peers, before - 1000, before, after, after + 1000) == [before - 1000, before, after]
    assert peers.asked == [("GET", "http://p:20202", "/readyz")]


def test_it_asks_until_the_primary_is_ready(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    peers = FakePeers(StreamError("no answer"), BUSY, BUSY, BUSY, READY)
    assert len(run(peers, *(SECOND + 1000 * n for n in range(1, 20)))) <= 4
    assert len(peers.asked) == 5
    assert [record.message for record in caplog.records] == [
        "primary p is not ready yet: no answer",
        "primary p is not ready yet: running x",
    ]


def test_a_node_of_litefs_does_not_say(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert run(FakePeers(PeerResponse(404, {}, b"404 page not found")), 5) == [5]
    assert "primary p does not tell whether it is ready" in caplog.text


def test_another_primary_is_another_question() -> None:
    async def main() -> None:
        role = Role("me", candidate=True, events=EventHub())
        situation, asked = Situation(), []

        async def wait(primary: PrimaryInfo) -> None:
            asked.append(primary)
            if primary == P:
                await trio.sleep_forever()

        situation.begin(role, wait)
        answers: list[bool] = []

        async def ask() -> None:
            answers.append(await situation.primary_done())

        for become in (lambda: role.follow(P), lambda: role.follow(PrimaryInfo("q", "http://q"))):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                become()
        await ask()
        assert answers == [False, False, True]  # without a primary, with one that is gone then, with the next
        assert [primary.hostname for primary in asked] == ["p", "q"]

    trio.run(main)
