"""Requests through the proxy: many small ones, big bodies, connections on which nothing happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import web
from bench.figures import LITEFS, NATIVE, OURS, Figure, Target
from bench.nodes import Node, free_port
from bench.processes import cpu_seconds, forget_peak, peak_memory, resident
from bench.session import MEMORY, Session

_PROXY = 'proxy: {{addr: "127.0.0.1:{port}", target: "127.0.0.1:{target}", db: db, idle-timeout: 10m}}\n'
_CASES = [("GET", 1), ("GET", 32), ("POST", 1), ("POST", 32)]
_IDLE = 5000  # connections
_FLAT = 10e6  # bytes that a body of any size may need


def run(session: Session) -> Iterator[Figure]:
    """Rates over kept connections, their 99th percentile, what a request costs; idle connections; bodies."""
    web.check()
    with ExitStack() as stack:
        directory, target = session.fresh("proxy-application"), free_port()
        stack.enter_context(web.nginx(directory, target))
        ports, nodes = _nodes(session, stack, target)
        for method, connections in _CASES:
            yield from _rates(session, directory, {NATIVE: target, **ports}, nodes, method, connections)
        yield _idle(session, ports, nodes)
    with ExitStack() as stack:
        target = free_port()
        stack.enter_context(session.working("bodies", port=target, size=session.size))
        ports, nodes = _nodes(session, stack, target)
        for method in ("POST", "GET"):
            yield from _body(session, {NATIVE: target, **ports}, nodes, method)


def _nodes(session: Session, stack: ExitStack, target: int) -> tuple[dict[str, int], dict[str, Node]]:
    """A node of each program before the application; the ports of their proxies, and they themselves."""
    ports, nodes = {}, {}
    for program in session.programs:
        port = free_port()
        node = Node(program, session.fresh("proxy"), more=_PROXY.format(port=port, target=target))
        stack.callback(node.remove)
        node.start()
        stack.enter_context(session.watched(node))
        node.wait_ready()
        session.work("create", path=node.mount / "db", journal="wal", rows=1)
        ports[program.name], nodes[program.name] = port, node
    return ports, nodes


def _rates(
    session: Session, directory: Path, ports: dict[str, int], nodes: dict[str, Node], method: str, connections: int
) -> Iterator[Figure]:
    what = f"proxy, {method}, {connections} connection{'s' if connections > 1 else ''}"
    rate = Figure(what, "rate", more=True, target=Target(LITEFS, 1))
    late = Figure(f"{what}, p99", "ms", target=Target(LITEFS, 1))
    cost = Figure(f"{what}, CPU time each", "ms", target=Target(LITEFS, 1))
    for _ in range(session.rounds):
        for name, port in ports.items():
            session.settle()
            before = cpu_seconds(nodes[name].pids) if name in nodes else 0.0
            count, seconds, p99 = web.wrk(directory, port, method, connections, session.seconds)
            rate.add(name, count / seconds)
            late.add(name, p99)
            if name in nodes:
                cost.add(name, (cpu_seconds(nodes[name].pids) - before) / count)
    assert OURS in rate.samples
    yield from (rate, late, cost)


def _idle(session: Session, ports: dict[str, int], nodes: dict[str, Node]) -> Figure:
    figure = Figure(f"proxy, memory with {_IDLE:,} idle connections", "bytes", target=Target("", MEMORY))
    for name, port in ports.items():
        session.settle()
        figure.add(name, session.work("idle", port=port, connections=_IDLE, pid=nodes[name].pid))
    return figure


def _body(session: Session, ports: dict[str, int], nodes: dict[str, Node], method: str) -> Iterator[Figure]:
    what = f"proxy, {session.size / 1e9:g} GB {'up' if method == 'POST' else 'down'}"
    time = Figure(what, "s", target=Target(LITEFS, 1))
    memory = Figure(f"{what}, memory added", "bytes", target=Target("", _FLAT))
    for _ in range(session.rounds):
        for name, port in ports.items():
            session.settle()
            if name in nodes:
                forget_peak(nodes[name].pid)
                before = resident(nodes[name].pid)
            time.add(name, session.work("transfer", port=port, method=method, size=session.size))
            if name in nodes:
                memory.add(name, peak_memory(nodes[name].pid) - before)
    yield from (time, memory)
