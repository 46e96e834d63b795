"""Requests through the proxy to an application that does nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from bench.figures import LITEFS, NATIVE, OURS, Figure, Target
from bench.nodes import Node, free_port
from bench.processes import cpu_seconds
from bench.session import Session

_PROXY = 'proxy: {{addr: "127.0.0.1:{port}", target: "127.0.0.1:{target}", db: db}}\n'
_CASES = [("GET", 1), ("GET", 32), ("POST", 32)]


def run(session: Session) -> Iterator[Figure]:
    """Requests a second over kept connections, their 99th percentile, and what each costs the node's processor."""
    with ExitStack() as stack:
        target = free_port()
        stack.enter_context(session.working("answers", port=target))
        ports, nodes = {NATIVE: target}, {}
        for program in session.programs:
            port = free_port()
            node = Node(program, session.fresh("proxy"), more=_PROXY.format(port=port, target=target))
            stack.callback(node.remove)
            node.start()
            stack.enter_context(session.watched(node))
            node.wait_ready()
            session.work("create", path=node.mount / "db", journal="wal", rows=1)
            ports[program.name], nodes[program.name] = port, node
        for method, connections in _CASES:
            yield from _measure(session, ports, nodes, method, connections)


def _measure(
    session: Session, ports: dict[str, int], nodes: dict[str, Node], method: str, connections: int
) -> Iterator[Figure]:
    what = f"proxy, {method}, {connections} connection{'s' if connections > 1 else ''}"
    rate = Figure(what, "rate", more=True, target=Target(LITEFS, 1))
    late = Figure(f"{what}, p99", "ms", target=Target(LITEFS, 1))
    cost = Figure(f"{what}, CPU time each", "ms", target=Target(LITEFS, 1))
    for _ in range(session.rounds):
        for name, port in ports.items():
            session.settle()
            before = cpu_seconds(nodes[name].pids) if name in nodes else 0.0
            count, seconds, p99 = session.work(
                "requests", port=port, method=method, connections=connections, seconds=session.seconds
            )
            rate.add(name, count / seconds)
            late.add(name, p99)
            if name in nodes:
                cost.add(name, (cpu_seconds(nodes[name].pids) - before) / count)
    assert OURS in rate.samples
    yield from (rate, late, cost)
