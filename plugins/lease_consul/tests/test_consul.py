"""What is special about Consul: its entries, its clock, its failures, and the way it is reached."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from litefs_lease_consul import client
from litefs_lease_consul.connection import Connection
from litefs_lease_consul.endpoint import Endpoint, locate
from litefs_lease_consul.keys import Keys
from litefs_lease_consul.leaser import ConsulLeaser

from litefs.leases import LeaseExpired, LeaseHeld, LeaseUnavailable, PrimaryInfo
from tests.support.consul import Consul
from tests.support.relay import Relay

Make = Callable[..., ConsulLeaser]

CLUSTER_ID = "LFSC0123456789ABCDEF"


def run(main: Callable[[], Awaitable[None]], limit: float = 20.0) -> None:
    async def limited() -> None:
        with trio.fail_after(limit):
            await main()

    trio.run(limited)


def sessions(consul: Consul) -> set[str]:
    """The ids of all sessions; those of earlier tests come to their end one by one."""
    return {session["ID"] for session in consul.sessions()}


# --------------------------------------------------------------------------------------------------- what is in Consul


def test_entries_are_those_of_litefs(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        one = make(ttl=10.0, lock_delay=1.5)
        lease = await one.acquire()
        entry = consul.entry(key)
        assert entry
        assert entry["Value"] == b'{"hostname":"one","advertise-url":"http://one:20202"}'
        assert (entry["Session"], entry["Flags"]) == (lease.id, 0)
        session = consul.session(key)
        assert session
        assert (session["Name"], session["Node"], session["Behavior"]) == ("litefs", "test", "delete")
        assert (session["TTL"], session["LockDelay"], session["NodeChecks"]) == ("10s", 1_500_000_000, [])
        await one.set_cluster_id(CLUSTER_ID)
        stored = consul.entry(f"{key}/clusterid")
        assert stored
        assert (stored["Value"], stored.get("Session")) == (CLUSTER_ID.encode(), None)
        await lease.release()
        left = consul.entry(key)
        assert left
        assert (left["Value"], left.get("Session")) == (b"", None)
        assert lease.id not in sessions(consul)

    run(main)


def test_a_prefix_has_a_node_of_its_own(consul: Consul, key: str, make: Make) -> None:
    prefix = key.replace("/", "-")

    async def main() -> None:
        one = make(url=f"{consul.url}/{prefix}/")
        await one.acquire()
        session = consul.session(f"{prefix}/{key}")
        assert session
        assert session["Node"] == f"{prefix}/litefs"
        # A Consul that lost all it knew.
        consul.request("PUT", "/v1/catalog/deregister", json.dumps({"Node": f"{prefix}/litefs"}).encode())
        await make("two", url=f"{consul.url}/{prefix}").acquire()

    run(main)


def test_the_value_that_litefs_leaves_behind_is_nobody(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        consul.put(key, b"")
        assert await make().primary() is None
        await make().acquire()

    run(main)


def test_a_value_without_a_session_counts(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        consul.put(key, b'{"hostname":"h","advertise-url":"http://h:1"}')
        one = make()
        assert await one.primary() == PrimaryInfo("h", "http://h:1")
        with pytest.raises(LeaseHeld, match="held by h"):
            await one.acquire()
        # Its own, as after keys were restored from a copy.
        consul.put(key, b'{"hostname":"one","advertise-url":"http://one:20202"}')
        await one.acquire()

    run(main)


@pytest.mark.parametrize("value", [b"x", b"[1]", b'{"hostname": 1}'])
def test_a_key_of_somebody_else(consul: Consul, key: str, make: Make, value: bytes) -> None:
    async def main() -> None:
        consul.put(key, value)
        for call in (make().primary, make().acquire):
            with pytest.raises(LeaseUnavailable, match=f"{key} in Consul announces no primary: delete it"):
                await call()

    run(main)
    entry = consul.entry(key)
    assert entry
    assert entry["Value"] == value


def test_an_operator_may_add_a_line_end_to_the_cluster_id(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        consul.put(f"{key}/clusterid", b"")
        assert await make().cluster_id() is None
        await make().set_cluster_id(CLUSTER_ID)
        consul.put(f"{key}/clusterid", CLUSTER_ID.encode() + b"\n")
        assert await make().cluster_id() == CLUSTER_ID
        await make().set_cluster_id(CLUSTER_ID)

    run(main)


# ------------------------------------------------------------------------------------------------------------- sessions


def test_refused_nodes_leave_no_session_behind(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        await make("one").acquire()
        before = sessions(consul)
        with pytest.raises(LeaseHeld):
            await make("two").acquire()
        # One that loses the race between looking and locking.
        three = make("three")
        looked = three._refuse_if_held

        async def look_once() -> None:
            three._refuse_if_held = looked  # type: ignore[method-assign]

        three._refuse_if_held = look_once  # type: ignore[method-assign]
        with pytest.raises(LeaseHeld, match="one"):
            await three.acquire()
        assert sessions(consul) <= before

    run(main)


def test_a_cancelled_acquire_gives_back_what_it_has(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        before = sessions(consul)
        one = make()
        lock = one._lock

        async def lock_and_cancel(session: str) -> bool:
            locked = await lock(session)
            scope.cancel()
            await trio.lowlevel.checkpoint()
            return locked

        one._lock = lock_and_cancel  # type: ignore[method-assign]
        with trio.CancelScope() as scope:
            await one.acquire()
        assert scope.cancelled_caught
        assert sessions(consul) <= before
        assert await one.primary() is None
        await make("two").acquire()  # without a lock delay

    run(main)


@pytest.mark.alone
def test_a_lock_delay_is_waited_for(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        one, two = make("one", ttl=10.0, lock_delay=1.0), make("two", ttl=10.0, lock_delay=1.0)
        lease = await one.acquire()
        consul.destroy(lease.id)
        started = time.monotonic()
        await two.acquire()
        assert 0.7 < time.monotonic() - started < 1.0 + 0.5

    run(main)


def test_a_long_lock_delay_is_not(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        one, two = make("one", lock_delay=20.0), make("two", lock_delay=0.1)
        consul.destroy((await one.acquire()).id)
        before = sessions(consul)
        with pytest.raises(LeaseUnavailable, match="still keeps the key"):
            await two.acquire()
        assert sessions(consul) <= before

    run(main)


def test_the_ttl_is_that_of_who_made_the_session(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        lease = await make("one", ttl=3.0).acquire()
        assert (await make("two", ttl=60.0).acquire_existing(lease.id)).ttl == 3.0
        assert (await make("three", ttl=2.0).acquire_existing(lease.id)).ttl == 2.0

    run(main)


def test_a_ttl_that_consul_refuses(consul: Consul, make: Make) -> None:
    async def main() -> None:
        with pytest.raises(LeaseUnavailable, match=r"Invalid Session TTL .*: change lease\.consul\.ttl"):
            await make(ttl=0.5).acquire()

    run(main)


@pytest.mark.alone
@pytest.mark.slow
def test_the_time_consul_takes(consul: Consul, key: str, make: Make) -> None:
    """Twice the TTL after the last renewal, then the lock delay: the figures in docs/leases.md."""

    async def main() -> None:
        one, two = make("one", ttl=2.0, lock_delay=0.5), make("two", ttl=2.0, lock_delay=0.5)
        lease = await one.acquire()
        await trio.sleep(0.5)
        started = time.monotonic()
        await lease.renew()
        while await two.primary() is not None:
            await two.wait_change()
        assert 4.0 <= time.monotonic() - started < 4.5
        await two.acquire()
        assert 4.4 <= time.monotonic() - started < 5.2

    run(main)


# ---------------------------------------------------------------------------------------------------------- wait_change


class Counting(Connection):
    """Counts requests."""

    count = 0

    async def call(self, request: Callable[[Any], Awaitable[Any]], limit: float) -> Any:
        self.count += 1
        return await super().call(request, limit)


def test_other_keys_do_not_wake_and_cost_little(consul: Consul, key: str) -> None:
    """While the key does not exist, Consul's blocking query returns whenever any key changes."""

    async def main() -> None:
        connection = Counting(locate(consul.url, {}))
        one = ConsulLeaser(connection, Keys(key), "one", "http://one:1", ttl=2.0)
        assert await one.primary() is None
        with trio.move_on_after(1.5) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.wait_change)
                for number in range(1000):
                    await trio.to_thread.run_sync(consul.put, f"{key}-other/{number}", b"x")
        assert scope.cancelled_caught
        assert connection.count < 8
        await one.aclose()

    run(main)


def test_a_renewal_wakes_nobody(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        one, two = make("one"), make("two")
        lease = await one.acquire()
        await two.primary()
        with trio.move_on_after(0.5) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(two.wait_change)
                for _ in range(5):
                    await lease.renew()
        assert scope.cancelled_caught

    run(main)


@pytest.mark.alone
def test_the_holder_learns_at_once_that_it_lost_the_lease(consul: Consul, key: str, make: Make) -> None:
    async def main() -> None:
        one = make()
        lease = await one.acquire()
        with trio.move_on_after(0.2) as scope:
            await one.wait_change()
        assert scope.cancelled_caught, "its own acquisition counted as a change"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.wait_change)
            await trio.sleep(0.2)
            started = time.monotonic()
            await trio.to_thread.run_sync(consul.destroy, lease.id)
        assert time.monotonic() - started < 0.5
        with pytest.raises(LeaseExpired):
            await lease.renew()

    run(main)


def test_waiting_survives_an_outage_and_does_not_hammer(consul: Consul, key: str, relay: Relay) -> None:
    async def main() -> None:
        connection = Counting(locate(relay.url, {}))
        one = ConsulLeaser(connection, Keys(key), "one", "http://one:1", ttl=2.0)
        assert await one.primary() is None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.wait_change)
            await trio.sleep(0.1)
            with relay.cut():
                await trio.sleep(1.5)
                assert connection.count <= 5
            consul.put(key, b'{"hostname":"h","advertise-url":"http://h:1"}')
        assert await one.primary() == PrimaryInfo("h", "http://h:1")
        await one.aclose()

    run(main)


# -------------------------------------------------------------------------------------------------------------- outages


@pytest.mark.alone
def test_every_request_has_a_time_limit(key: str, make: Make, relay: Relay) -> None:
    async def main() -> None:
        one = make(url=relay.url)
        lease = await one.acquire()
        with relay.stalled():
            calls = [one.primary, lease.renew, one.cluster_id, lease.release]
            async with trio.open_nursery() as nursery:

                async def refused(call: Callable[[], Awaitable[object]]) -> None:
                    started = time.monotonic()
                    with pytest.raises(LeaseUnavailable, match="does not answer: waited 1 s"):
                        await call()
                    assert time.monotonic() - started < 2

                for call in calls:
                    nursery.start_soon(refused, call)
        await lease.renew()

    run(main)


@pytest.mark.alone
def test_a_frozen_agent(consul: Consul, make: Make) -> None:
    async def main() -> None:
        one = make(ttl=4.0)
        lease = await one.acquire()
        with consul.frozen():
            with pytest.raises(LeaseUnavailable, match="does not answer"):
                await lease.renew()
            started = time.monotonic()
            with trio.move_on_after(0.1):
                await make("two").acquire()
            assert time.monotonic() - started < 0.5
        await lease.renew()

    run(main)


def test_nobody_there(make: Make) -> None:
    async def main() -> None:
        with pytest.raises(LeaseUnavailable, match=r"cannot reach Consul at http://127.0.0.1:1: .*refused"):
            await make(url="http://:t0k3n@127.0.0.1:1").primary()

    run(main)


def test_a_name_that_does_not_exist(make: Make) -> None:
    async def main() -> None:
        with pytest.raises(LeaseUnavailable, match=r"http://consul\.invalid:80"):
            await make(url="http://consul.invalid", ttl=60.0).primary()

    run(main)


async def serve(answer: bytes, task_status: trio.TaskStatus[int]) -> None:
    """A server that answers every request alike."""

    async def handle(stream: trio.SocketStream) -> None:
        async with stream:
            with trio.move_on_after(5):
                await stream.receive_some()
                try:
                    await stream.send_all(answer)
                except trio.BrokenResourceError:
                    return

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, handle, 0)
        task_status.started(listeners[0].socket.getsockname()[1])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmine", "does not answer as Consul"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "does not answer as Consul"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\xff", "does not answer as Consul"),
        (b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nLocation: http://a\r\n\r\n", "does not answer as Consul"),
        (b"SSH-2.0-x\r\n", "cannot reach Consul"),
        (b"", "cannot reach Consul"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (client.LARGEST_ANSWER + 10), "more than Consul would"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 17\r\n\r\nNo cluster leader", r"refuses \(500 No cluster leader\)"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 12\r\n\r\nhide: t0k3n!", r"refuses \(403 hide: \*\*\*!\): its ACL token"),
    ],
)
def test_answers_that_are_not_consuls(make: Make, answer: bytes, message: str) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve, answer)
            with pytest.raises(LeaseUnavailable, match=message) as caught:
                await make(url=f"http://:t0k3n@127.0.0.1:{port}", ttl=20.0).primary()
            assert "t0k3n" not in str(caught.value)
            nursery.cancel_scope.cancel()

    run(main)


# --------------------------------------------------------------------------------------------------------------- access


def test_the_token_is_sent_and_never_logged(
    consul: Consul, key: str, relay: Relay, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def main() -> None:
        one = make(url=f"http://me:s3cr3t@127.0.0.1:{relay.port}")
        lease = await one.acquire()
        await one.set_cluster_id(CLUSTER_ID)
        await lease.renew()
        await lease.release()
        await one.aclose()

    run(main)
    requests = bytes(relay.seen).lower().count(b"host: ")
    assert requests >= 8
    assert bytes(relay.seen).lower().count(b"x-consul-token: s3cr3t\r\n") == requests
    assert b"authorization" not in bytes(relay.seen).lower()
    assert "s3cr3t" not in caplog.text


def test_the_token_may_be_in_a_file(consul: Consul, relay: Relay, tmp_path: Any) -> None:
    file = tmp_path / "token"
    endpoint = locate(relay.url, {"CONSUL_HTTP_TOKEN_FILE": str(file), "CONSUL_HTTP_TOKEN": "other"})

    async def main() -> None:
        leaser = ConsulLeaser(Connection(endpoint), Keys("k"), "one", "http://one:1")
        with pytest.raises(LeaseUnavailable, match=f"CONSUL_HTTP_TOKEN_FILE names: {file}"):
            await leaser.primary()
        file.write_text("from-file\n")
        await leaser.primary()
        await leaser.aclose()

    run(main)
    assert b"x-consul-token: from-file\r\n" in bytes(relay.seen).lower()


def test_the_environment_does_not_override(
    consul: Consul, key: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As python-consul2 and httpx would by themselves."""
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "http://a:b:c:1")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

    async def main() -> None:
        assert await make().primary() is None

    run(main)


def test_certificates_that_cannot_be_used(tmp_path: Any) -> None:
    async def main() -> None:
        endpoint = locate("https://127.0.0.1:1", {"CONSUL_CACERT": str(tmp_path / "none")})
        leaser = ConsulLeaser(Connection(endpoint), Keys("k"), "one", "http://one:1")
        with pytest.raises(LeaseUnavailable, match="cannot use the certificates"):
            await leaser.primary()

    run(main)


def test_nothing_is_shown_of_an_endpoint_in_errors() -> None:
    endpoint = Endpoint("http", "h", 1, token="t0k3n", basic_auth="u:p4ss")
    assert "t0k3n" not in f"{endpoint} {endpoint!r}"
    assert "p4ss" not in f"{endpoint} {endpoint!r}"
