"""What users are told about a wrong litefs.yml: file, line, key and the fix."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from litefs.config import Config, InvalidConfig, loads
from litefs.errors import ConfigError
from litefs.plugins import BUILTIN, Plugins

Make = Callable[..., Config]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data:\n  compression: true", '3: data.compression: unknown key; did you mean "compress"?'),
        ("data:\n  retention_monitor_interval: 1s", 'did you mean "retention-monitor-interval"?'),
        ("Fuse: {}", 'unknown key; did you mean "fuse"?'),
        ("retention: 1h", 'retention: unknown key; did you mean "data.retention"?'),
        ("flux: 1", "2: flux: unknown key; is a plugin missing? known here: exit-on-error,"),
        ("log: {colour: yes}", "log.colour: unknown key; known here: format, timestamp, debug"),
        ("data: {retention: 10}", 'data.retention: invalid duration "10"; write a number with a unit'),
        ("data: {retention: -1s}", 'data.retention: invalid duration "-1s"'),
        ("data: {retention: [1s]}", "data.retention: must be a duration, not a list"),
        ("data: {compress: 'true'}", "data.compress: must be true or false, not text; remove the quotes"),
        ("data: {compress: 1}", "data.compress: must be true or false, not a number"),
        ("data: {compress: }", "data.compress: is empty, where true or false is expected; is the environment variable"),
        ("data: 5", "data: must be a section of keys, not a number"),
        ("data: [1]", "data: must be a section of keys, not a list"),
        ("proxy: {passthrough: /a}", "proxy.passthrough: must be a list, not text"),
        ("proxy: {passthrough: [{}]}", "proxy.passthrough[0]: must be text, not a section of keys"),
        ("log: {format: jsn}", "log.format: must be either 'text' or 'json', got: 'jsn'; did you mean \"json\"?"),
        ("tracing: {max-size: x}", "tracing.max-size: must be a whole number, not text"),
        ("tracing: {max-size: 0}", "tracing.max-size: 0 is less than the minimum of 1"),
        ("exec: {cmd: x}", "exec: must be text or a list, not a section of keys"),
        ("exec: [sleep 1]", "exec[0]: must be a section of keys, not text; write - cmd: COMMAND"),
        ("exec:\n- cmd: a\n- if-candidate: true", "4: exec[1].cmd: is required"),
        ("exec: [{cmd: a, if-candiate: true}]", 'exec[0].if-candiate: unknown key; did you mean "if-candidate"?'),
        ("exec: [{cmd: a, if-candidate: x}]", "exec[0].if-candidate: must be true or false, not text"),
        ("audit: {evry: 1s}", 'audit.evry: unknown key; did you mean "every"?'),
        ("fuse: {dir: ''}", "fuse.dir: fuse directory required"),
        ("data: {dir: ''}", "data.dir: data directory required"),
        ("fuse: {dir: /a}\ndata: {dir: /a/}", "data.dir: fuse directory and data directory cannot be the same path"),
        ("fuse: {dir: /a}\ndata: {dir: /a/b}", "data.dir: the data directory cannot be inside the fuse directory"),
        ("http: {addr: 20202}", 'http.addr: invalid address "20202"; write HOST:PORT'),
        ("http: {tls-cert: a}", 'http.tls-key: tls-cert and tls-key are needed together; add "tls-key"'),
        ("http: {auth-token: a, auth-token-file: b}", "http.auth-token-file: cannot be combined with auth-token"),
        ("proxy: {target: a, db: b}", "proxy.addr: proxy bind address required"),
        ("proxy: {target: a, addr: ':1'}", "proxy.db: proxy database name required"),
        ("proxy: {target: a, addr: '1', db: b}", 'proxy.addr: invalid address "1"'),
        ("proxy: {type: flyy}", "proxy.type: invalid proxy type, must be 'fly', got: 'flyy'"),
        ("backup: {type: floppy}", "backup.type: invalid backup type, must be 'file', 'folder', 'litefs-cloud'"),
        ("backup: {type: litefs-cloud}", "needs a plugin that is not installed (installed: shelf); pip install"),
    ],
)
def test_message(make: Make, text: str, expected: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        make(text)
    assert len(error.value.lines) == 1
    assert error.value.lines[0].startswith("litefs.yml:")
    assert expected in str(error.value)
    assert error.value.exit_code == (1 if "required" in expected and "proxy" in expected else 2)  # as LiteFS has it


@pytest.mark.parametrize(
    ("lease", "expected"),
    [
        ("{type: zookeeper, zookeeper: {a: 1}}", "'sample' or 'static', got: 'zookeeper' (installed: sample, static)"),
        ("{type: zookeeper}", "is a plugin missing? pip install litefs-lease-zookeeper"),
        ("{type: sttic}", 'did you mean "static"?'),
        ("{type: consul, consul: {url: x}}", "lease type 'consul' needs a plugin that is not installed"),
        ("{type: consul}", "pip install litefs-lease-consul"),
        ("{hostname: a}", "lease.type: invalid lease type, must be"),
        ("", "lease.type: invalid lease type, must be"),
        ("{type: sample}", "lease.sample.key: is required"),
        ("{type: sample, sample: {key: a, ttl: 5}}", 'lease.sample.ttl: invalid duration "5"'),
        ("{type: static, zookeeper: {}}", "lease.zookeeper: unknown key; is a plugin missing?"),
        ("{type: static, databases: [a]}", "cannot specify a database replication filter on candidate nodes"),
    ],
)
def test_lease_message(make: Make, lease: str, expected: str) -> None:
    with pytest.raises(InvalidConfig) as error:
        make(f"lease: {lease}")
    assert len(error.value.problems) == 1
    assert expected in str(error.value)


def test_lease_types_of_a_bare_kernel() -> None:
    with pytest.raises(InvalidConfig) as error:
        loads("lease: {type: x}", plugins=Plugins([BUILTIN]), environment={})
    text = "invalid lease type, must be either 'consul' or 'static', got: 'x' (installed: none)"
    assert text in str(error.value)


def test_section_of_a_known_plugin_that_is_not_selected_does_no_harm(make: Make) -> None:
    assert make("lease: {type: static, consul: {url: x, key: y}}").lease.type == "static"


def test_all_problems_are_told_in_the_order_of_lines(make: Make) -> None:
    with pytest.raises(InvalidConfig) as error:
        make("zzz: 1\ndata:\n  retention: 5\n  compress:\nlog: {format: x}")
    assert [line.split(":")[1] for line in error.value.lines] == ["2", "4", "5", "6"]
    assert str(error.value).startswith("4 errors\n  litefs.yml:2: ")


def test_secrets_are_not_quoted(make: Make) -> None:
    with pytest.raises(InvalidConfig) as error:
        make("lease: {type: sample, sample: {key: a, secret: hunter2}}")
    assert "hunter2" not in str(error.value)
    assert "lease.sample.secret: invalid value" in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "litefs.yml: EOF"),
        ("# only a comment", "litefs.yml: EOF"),
        ("[1]", "litefs.yml:1: must hold sections"),
        ("lease: [\n", "litefs.yml:2: while parsing a flow"),
    ],
)
def test_not_a_configuration(plugins: Plugins, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected.replace("[", r"\[")):
        loads(text, plugins=plugins, environment={})
