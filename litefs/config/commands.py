"""The entries of ``exec``: which run to completion, which live side by side, and what their options default to."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from litefs.config.problems import Problem

if TYPE_CHECKING:
    from litefs.extensions import ExecPolicy

Entry = Mapping[str, Any]
Policies = Mapping[str, "ExecPolicy"]

GRACE = 10.0
"""Seconds between the signal that asks a service to end and SIGKILL, unless ``grace`` says otherwise."""


class Kind(Enum):
    """What a command is for the others."""

    TASK = "runs to completion before the services are started"
    SERVICE = "lives beside the others"
    MAIN = "the service that no key made one: the last of a plain list, as in LiteFS"


def kinds(entries: Sequence[Entry], policies: Policies) -> list[Kind]:
    """The kind of each entry.

    What keys make of an entry comes first. Of those that no key says anything about, the last is the main service and
    the others are tasks, which is LiteFS's rule: a list without any of the keys that it lacks behaves as there.
    """
    said = [_said(entry, policies) for entry in entries]
    plain = [place for place, service in enumerate(said) if service is None]
    main = plain[-1] if plain else None
    return [
        Kind.MAIN if place == main else Kind.SERVICE if service else Kind.TASK for place, service in enumerate(said)
    ]


def options(entry: Entry, kind: Kind, policies: Policies) -> dict[str, Any]:
    """Fields of `litefs.config.ExecCommand` that have a default which depends on the entry; durations in seconds."""
    bound = any(policies[key].service for key in _given(entry, policies))
    restart = entry.get("restart", "on-failure" if bound else "no")
    return {
        "name": entry.get("name", ""),
        "restart": restart,
        "essential": entry.get("essential", restart == "no" and not bound),
        "env": dict(entry.get("env", {})),
        "signal": _signal(entry["signal"]) if "signal" in entry else None,
        "grace": entry.get("grace", GRACE if kind is Kind.SERVICE else None),
    }


def problems(entries: Sequence[Entry], policies: Policies) -> Iterator[Problem]:
    """What no schema can say about entries that satisfy it."""
    names: dict[str, int] = {}
    for place, (entry, kind) in enumerate(zip(entries, kinds(entries, policies), strict=True)):
        tasks = [key for key in _given(entry, policies) if policies[key].service is False]
        if tasks and entry.get("run") == "service":
            message = f"{tasks[0]} is for commands that run to completion"
            yield Problem(("exec", place, "run"), message, f"remove run or {tasks[0]}")
        elif kind is Kind.TASK:
            yield from _misplaced(place, entry, bool(tasks) or entry.get("run") == "once")
        if (name := entry.get("name")) and names.setdefault(name, place) != place:
            yield Problem(("exec", place, "name"), f'exec[{names[name]}] is called "{name}", too', "find another name")


def _said(entry: Entry, policies: Policies) -> bool | None:
    """Whether its keys make the entry a service; None where they say nothing."""
    says = {policies[key].service for key in _given(entry, policies)}
    if False in says:
        return False
    if "run" in entry:
        return bool(entry["run"] == "service")
    return True if True in says else None


def _given(entry: Entry, policies: Policies) -> list[str]:
    """The entry's policies. One that is switched off might as well not be there."""
    return [key for key, value in entry.items() if key in policies and value is not False]


def _misplaced(place: int, entry: Entry, on_purpose: bool) -> Iterator[Problem]:
    hint = "remove it" if on_purpose else 'add "run: service" to have it run beside the others'
    for key in ("restart", "essential"):
        if key in entry:
            yield Problem(("exec", place, key), "is for services, and this command runs to completion first", hint)


def _signal(name: str) -> int:
    return int(signal.Signals["SIG" + name.removeprefix("SIG")])
