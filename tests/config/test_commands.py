"""Entries of ``exec``: what their keys make of them."""

from __future__ import annotations

import signal

import pytest

from litefs.config import Config, ExecCommand, loads
from litefs.config.commands import Kind
from litefs.errors import ConfigError
from litefs.extensions import ExecPolicy
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec
from litefs.plugins import BUILTIN, Plugin, Plugins

T, S, M = Kind.TASK, Kind.SERVICE, Kind.MAIN


class Sample:
    """A lease, and policies of both kinds."""

    @hookimpl
    def litefs_leasers(self) -> list[LeaserSpec]:
        return [LeaserSpec("static", None)]  # type: ignore[arg-type]

    @hookimpl
    def litefs_exec_policies(self) -> list[ExecPolicy]:
        schema = {"type": "string"}
        return [
            ExecPolicy("while", schema, lambda value, context: True, "", service=True),
            ExecPolicy("first", schema, lambda value, context: None, "", service=False),
        ]


def load(*entries: str) -> Config:
    text = f"lease: {{type: static}}\nexec: [{', '.join(entries)}]"
    return loads(text, plugins=Plugins([BUILTIN, Plugin("sample", Sample())]), environment={})


def entry(text: str = "") -> str:
    return f"{{cmd: x, {text}}}"


@pytest.mark.parametrize(
    ("entries", "kinds"),
    [
        (["", "if-candidate: true", ""], [T, T, M]),  # LiteFS's own
        (["if-candidate: true"], [M]),
        (["if-primary: true", "", ""], [S, T, M]),
        (["", "", "if-replica: true"], [T, M, S]),
        (["once-on-primary: true", "", "if-primary: true"], [T, M, S]),
        (["once-on-primary: true"], [T]),
        (["once-on-primary: true, if-primary: true"], [T]),
        (["if-primary: true, run: once", ""], [T, M]),
        (["if-primary: false", "if-primary: false"], [T, M]),  # as good as not there
        (["once-on-primary: false", "run: service"], [M, S]),
        (["run: once"], [T]),
        (["run: service", "run: service"], [S, S]),
    ],
)
def test_kinds(entries: list[str], kinds: list[Kind]) -> None:
    assert [command.kind for command in load(*map(entry, entries)).exec] == kinds


@pytest.mark.parametrize(
    ("text", "restart", "essential", "grace"),
    [
        ("", "no", True, None),
        ("restart: always", "always", False, None),
        ("restart: on-failure, essential: true, grace: 1m", "on-failure", True, 60.0),
        ("run: service", "no", True, 10.0),
        ("if-primary: true", "on-failure", False, 10.0),
        ("if-primary: true, run: service", "on-failure", False, 10.0),
        ("if-replica: true, restart: no", "no", False, 10.0),
        ("if-primary: true, essential: true, grace: 0", "on-failure", True, 0.0),
    ],
)
def test_defaults(text: str, restart: str, essential: bool, grace: float | None) -> None:
    (command,) = load(entry(text)).exec
    assert (command.restart, command.essential, command.grace) == (restart, essential, grace)


def test_options() -> None:
    text = "name: web, env: {PORT: 8080, DEBUG: 'no'}, cwd: /srv/./app, signal: INT"
    (command,) = load(entry(text)).exec
    assert command == ExecCommand(
        "x", name="web", env={"PORT": "8080", "DEBUG": "no"}, cwd="/srv/app", signal=signal.SIGINT
    )


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["restart: always", ""], r'exec\[0\]\.restart: is for services, .*; add "run: service" to have it run beside'),
        (["run: once, essential: true"], r"exec\[0\]\.essential: is for services, .*; remove it"),
        (["once-on-primary: true, restart: no"], r"exec\[0\]\.restart: is for services, .*; remove it"),
        (["once-on-primary: true, run: service"], r"exec\[0\]\.run: once-on-primary is for commands that run to compl"),
        (["run: often"], r"exec\[0\]\.run: must be either 'once' or 'service', got: 'often'"),
        (["restart: sometimes"], r"exec\[0\]\.restart: must be .*'on-failure'"),
        (["signal: KIL"], r"exec\[0\]\.signal: invalid value \"KIL\"; the name of a signal, like SIGTERM or SIGINT"),
        (["grace: 5"], r"exec\[0\]\.grace: (invalid|must be a) duration"),
        (["if-primery: true"], r'exec\[0\]\.if-primery: unknown key; did you mean "if-primary"'),
        (["name: a b"], r"exec\[0\]\.name: invalid value"),
        (["run: service, name: a", "name: a"], r'exec\[1\]\.name: exec\[0\] is called "a", too'),
        (["env: {A: [1]}"], r"exec\[0\]\.env\.A: must be text, not a list"),
    ],
)
def test_mistakes(entries: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(*map(entry, entries))


def test_policies_of_plugins_say_what_a_command_is() -> None:
    assert [command.kind for command in load(entry(), entry("while: x"), entry("first: x")).exec] == [M, S, T]
