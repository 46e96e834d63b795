"""Several hosts on one machine: network namespaces on one bridge, whose links can be cut and delayed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

PREFIX = "10.203"
NOWHERE = "02:00:00:00:00:fe"  # a hardware address that nobody has: what is sent there is lost without a word


class CannotIsolate(Exception):
    """Namespaces cannot be made here."""


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise CannotIsolate(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


class Host:
    """One host.

    Attributes:
        address: where the others reach it.
        prefix: what to put before a command to run it there. Mounts are shared with everyone else.
    """

    def __init__(self, network: Network, number: int) -> None:
        self.network = network
        self.name = f"{network.name}-{number}"
        self.address = f"{network.subnet}.{number}"

    @property
    def prefix(self) -> Sequence[str]:
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def _ip(self, *arguments: str) -> None:
        ip("-n", self.name, *arguments)

    def make(self, stack: ExitStack) -> None:
        """Bring it up; it goes with the stack."""
        ip("netns", "add", self.name)
        stack.callback(ip, "netns", "delete", self.name)
        outside = f"v{self.name}"
        ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        stack.callback(ip, "link", "delete", outside)  # a namespace takes its own with it, but later
        ip("link", "set", outside, "master", self.network.name, "up")
        self._ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self._ip("link", "set", "eth0", "up")
        self._ip("link", "set", "lo", "up")

    def cut(self, *others: Host) -> None:
        """From now on nothing that these hosts and this one send to each other arrives; nobody is told."""
        for other in others:
            self._lose(other)
            other._lose(self)

    def heal(self, *others: Host) -> None:
        """Undo `cut`."""
        for other in others:
            self._find(other)
            other._find(self)

    def _lose(self, other: Host) -> None:
        self._ip("neighbour", "replace", other.address, "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")

    def _find(self, other: Host) -> None:
        self._ip("neighbour", "delete", other.address, "dev", "eth0")


class Network:
    """A bridge with hosts on it. Processes outside of it reach the hosts, too."""

    def __init__(self, name: str, subnet: str) -> None:
        self.name = name
        self.subnet = subnet

    def make(self, stack: ExitStack, hosts: int) -> list[Host]:
        """Bring it up; it goes with the stack."""
        ip("link", "add", self.name, "type", "bridge")
        stack.callback(ip, "link", "delete", self.name)
        ip("address", "add", f"{self.subnet}.254/24", "dev", self.name)
        ip("link", "set", self.name, "up")
        made = [Host(self, number) for number in range(1, hosts + 1)]
        for host in made:
            host.make(stack)
        return made


@contextmanager
def network(hosts: int) -> Iterator[list[Host]]:
    """Hosts that reach each other. Raises `CannotIsolate` where that is not allowed."""
    number = os.getpid() % 250
    with ExitStack() as stack:
        yield Network(f"lfs{number}", f"{PREFIX}.{number}").make(stack, hosts)
