"""What plugins hand to the kernel, apart from leases (`litefs.leases`): plain frozen records.

Hooks are synchronous and return lists of these; behaviour lives in the objects that their factories make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from litefs.leases import NodeInfo

if TYPE_CHECKING:
    import trio

    from litefs.config.model import BackupConfig, Config, ProxyConfig

JsonSchema = Mapping[str, Any]


def _no_keys() -> JsonSchema:
    return {"type": "object", "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class CommandSpec:
    """A sub-command of ``litefs``.

    Args:
        name: the word after ``litefs``.
        target: ``module:attribute`` of a ``click.Command``; imported when the command is used.
        summary: one line for the usage text, without a full stop.
    """

    name: str
    target: str
    summary: str


@dataclass(frozen=True, slots=True)
class ConfigSection:
    """Keys that a plugin adds to litefs.yml, apart from the section of its lease, backup or proxy type.

    Args:
        name: a top-level key, like ``audit``; or the path of an object, like ``http``, that gets more properties.
        schema: JSON Schema (2020-12).  ``#/$defs/duration`` of the kernel's schema may be referred to; a schema that
            has ``$defs`` of its own needs an ``$id``.
    """

    name: str
    schema: JsonSchema


@dataclass(frozen=True, slots=True)
class ExecContext:
    """What an exec policy may know about the node, at the moment it is asked.

    Args:
        hostname: the node's name, as in ``lease.hostname``.
        candidate: whether the node may become primary.
        is_primary: whether it is primary now, and not about to hand that over.
        primary: name of the primary, which may be this node; None while there is none.
    """

    hostname: str
    candidate: bool
    is_primary: bool
    primary: str | None = None


@dataclass(frozen=True, slots=True)
class ExecPolicy:
    """A rule about when an ``exec`` command runs on a node, given as a key beside ``cmd``.

    It is asked before the command is started, and again whenever the node's role changes. A command that it no longer
    admits is stopped: with the command's signal, and SIGKILL after its grace. One that it admits again is started
    once the former run has ended.

    Args:
        key: the key, like ``if-candidate``.
        schema: JSON Schema (2020-12) of its value.
        admits: whether the command runs now, given the key's value. Plain and quick: called in the node's event loop.
            Asked only where the key is present. None is for a command that runs to completion, and means that it is
            the primary's to run: this node waits until the primary has come up and what it wrote until then is here.
        reason: why a command does not run, for the log.
        service: what the key makes of a command, unless its value is false: True, one that lives beside the others,
            unless ``run`` says otherwise; False, one that runs to completion first, whatever else it has; None,
            nothing.
    """

    key: str
    schema: JsonSchema
    admits: Callable[[Any, ExecContext], bool | None]
    reason: str
    service: bool | None = None


class Service(Protocol):
    """A part of a node that lives as long as the node does.

    It is cancelled when the node stops. One that wants to be asked first also has ``async def leave(ended)``, which
    lets ``run`` come to its end and then waits for the event ``ended``, and may have ``grace``, the seconds for that.
    """

    async def run(self, node: RunningNode, *, task_status: trio.TaskStatus[None]) -> None:
        """Work until cancelled; call ``task_status.started()`` when ready."""


class Backup(Service, Protocol):
    """Where transactions go for safekeeping; `litefs.backup.BackupService` is one for any `BackupClient`.

    One that also has ``collectors()``, called once in a thread, adds the Prometheus collectors it returns to
    ``/metrics``.
    """

    async def wait_restored(self) -> None:
        """Return when the node may serve applications; a primary without data waits for what the backup has."""


class RunningNode(Protocol):
    """What a running service gets from its node."""

    config: Config
    store: Any
    role: Any


@dataclass(frozen=True, slots=True)
class BackupSpec:
    """A backup type, as a plugin registers it.

    Args:
        type: the word in ``backup.type``; also the name of its section, ``backup.TYPE``.
        factory: makes the service, opening nothing yet; raises ConfigError for what the schema could not check.
        schema: JSON Schema (2020-12) of the section; by default it has no keys.
        implied: whether this type is used where ``backup.type`` is empty, given the section and the environment.
    """

    type: str
    factory: Callable[[BackupConfig, NodeInfo], Backup]
    schema: JsonSchema = field(default_factory=_no_keys)
    implied: Callable[[Mapping[str, Any], Mapping[str, str]], bool] = lambda section, environment: False


@dataclass(frozen=True, slots=True)
class ProxySpec:
    """A proxy type, as a plugin registers it.

    Args:
        type: the word in ``proxy.type``; also the name of its section, ``proxy.TYPE``.
        factory: makes the service, opening nothing yet; raises ConfigError for what the schema could not check.
        schema: JSON Schema (2020-12) of the section; by default it has no keys.
    """

    type: str
    factory: Callable[[ProxyConfig, NodeInfo], Service]
    schema: JsonSchema = field(default_factory=_no_keys)


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A part that runs beside every node.

    Args:
        name: for the log.
        factory: makes the service, opening nothing yet, or None where it is not wanted; raises ConfigError. It runs
            from before the node has found its cluster, and must not fail because of the world outside: the node
            would stop.
    """

    name: str
    factory: Callable[[Config, NodeInfo], Service | None]
