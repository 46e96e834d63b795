"""What a schema cannot say: rules about several keys at once, and about the machine.

Each check takes the completed document, durations still as text, and yields problems.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from litefs.config import commands
from litefs.config.addresses import split_address
from litefs.config.problems import Problem
from litefs.config.validation import unknown_type
from litefs.errors import ConfigError
from litefs.plugins import Plugins

Tree = Mapping[str, Any]


def cross_problems(tree: Tree, plugins: Plugins) -> Iterator[Problem]:
    """Everything that is wrong with a document which satisfies its schema."""
    yield from _directories(tree)
    yield from _http(tree["http"])
    yield from _lease(tree["lease"], secure=bool(tree["http"]["tls-cert"]))
    yield from _proxy(tree["proxy"], plugins)
    if isinstance(tree["exec"], list):
        yield from commands.problems(tree["exec"], plugins.exec_policies)


def _directories(tree: Tree) -> Iterator[Problem]:
    fuse, data = tree["fuse"]["dir"], tree["data"]["dir"]
    if not fuse:
        yield Problem(("fuse", "dir"), "fuse directory required")
    if not data:
        yield Problem(("data", "dir"), "data directory required")
    if not fuse or not data:
        return
    mount, store = _real(fuse), _real(data)
    if mount == store:
        yield Problem(("data", "dir"), "fuse directory and data directory cannot be the same path")
    elif store.startswith(mount.rstrip("/") + "/"):
        yield Problem(("data", "dir"), "the data directory cannot be inside the fuse directory", "move it elsewhere")


def _real(path: str) -> str:
    """The path with symbolic links resolved, except in its last part: that may be a mount which does not answer."""
    outer, last = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(outer), last)


def _http(http: Tree) -> Iterator[Problem]:
    yield from _address(("http", "addr"), http["addr"])
    if http["auth-token"] and http["auth-token-file"]:
        yield Problem(("http", "auth-token-file"), "cannot be combined with auth-token", "keep one of them")
    if bool(http["tls-cert"]) != bool(http["tls-key"]):
        missing = "tls-key" if http["tls-cert"] else "tls-cert"
        yield Problem(("http", missing), "tls-cert and tls-key are needed together", f'add "{missing}"')
    if http["tls-client-ca"] and not http["tls-cert"]:
        yield Problem(("http", "tls-client-ca"), "has no effect without TLS", "add tls-cert and tls-key")


def _address(key: tuple[str, str], address: str) -> Iterator[Problem]:
    try:
        split_address(address)
    except ConfigError as error:
        yield Problem(key, error.message, error.hint)


def _lease(lease: Tree, *, secure: bool) -> Iterator[Problem]:
    if secure and lease["advertise-url"].startswith("http://"):
        message = "must start with https:// where http.tls-cert is set"
        yield Problem(("lease", "advertise-url"), message, "all nodes of a cluster use TLS, or none")
    if lease["databases"] and lease["candidate"]:
        message = "cannot specify a database replication filter on candidate nodes"
        yield Problem(("lease", "databases"), message, "set lease.candidate to false, or drop lease.databases")


def _proxy(proxy: Tree, plugins: Plugins) -> Iterator[Problem]:
    if not proxy["target"]:
        return
    if proxy["type"] not in plugins.proxies:
        yield unknown_type("proxy", proxy["type"], sorted(plugins.proxies))
    if not proxy["db"]:
        yield Problem(("proxy", "db"), "proxy database name required", exit_code=1)
    if not proxy["addr"]:
        yield Problem(("proxy", "addr"), "proxy bind address required", exit_code=1)
    else:
        yield from _address(("proxy", "addr"), proxy["addr"])
