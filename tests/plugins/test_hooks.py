"""Each hook: what a plugin returns reaches the place that uses it.  A hook without a test here or docs fails."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from litefs import assembly, hookspecs
from litefs.config import BackupConfig, LeaseConfig, ProxyConfig, loads
from litefs.errors import ConfigError, PluginError
from litefs.extensions import BackupSpec, CommandSpec, ConfigSection, ExecContext, ExecPolicy, ProxySpec, ServiceSpec
from litefs.hookspecs import hookimpl
from litefs.leases import BaseLeaser, LeaserSpec, NodeInfo
from litefs.plugins import BUILTIN, Plugin, Plugins

HOOKS = [name for name in vars(hookspecs) if name.startswith("litefs_")]
NODE = NodeInfo("h", 20202)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_tested_and_documented(hook: str) -> None:
    assert inspect.getdoc(getattr(hookspecs, hook)), "no docstring"
    assert f"test_{hook}" in globals(), "no test in this file"
    guide = Path(__file__).parents[2] / "docs" / "plugins.md"
    assert f"### `{hook}`" in guide.read_text(), "no section in docs/plugins.md"


def with_plugin(hook: str, *records: object) -> Plugins:
    """The built-in plugin and one whose hook returns the records."""

    def implementation() -> list[object]:
        return list(records)

    implementation.__name__ = hook
    return Plugins([BUILTIN, Plugin("sample", type("Sample", (), {hook: staticmethod(hookimpl(implementation))})())])


class Made:
    """What a factory was given."""

    def __init__(self, config: Any, node: NodeInfo) -> None:
        self.config = config
        self.node = node


def test_litefs_leasers() -> None:
    schema = {"type": "object", "properties": {"ttl": {"$ref": "#/$defs/duration", "default": "10s"}}}
    plugins = with_plugin("litefs_leasers", LeaserSpec("sample", Made, schema))  # type: ignore[arg-type]
    config = loads("lease: {type: sample, hostname: n1}", plugins=plugins, environment={})
    leaser: Any = assembly.make_leaser(plugins, config, NODE)
    assert isinstance(leaser.config, LeaseConfig)
    assert leaser.config.hostname == "n1"
    assert leaser.config.section == {"ttl": 10.0}
    assert leaser.node is NODE


def test_litefs_backups() -> None:
    plugins = Plugins([BUILTIN, Plugin("sample", _Everything())])
    config = loads("lease: {type: one}\nbackup: {type: two, two: {a: b}}", plugins=plugins, environment={})
    backup: Any = assembly.make_backup(plugins, config, NODE)
    assert isinstance(backup.config, BackupConfig)
    assert backup.config.section == {"a": "b"}
    assert assembly.make_backup(plugins, loads("lease: {type: one}", plugins=plugins, environment={}), NODE) is None


def test_litefs_proxies() -> None:
    plugins = Plugins([BUILTIN, Plugin("sample", _Everything())])
    text = "lease: {type: one}\nproxy: {type: three, target: ':1', addr: ':2', db: d}"
    proxy: Any = assembly.make_proxy(plugins, loads(text, plugins=plugins, environment={}), NODE)
    assert isinstance(proxy.config, ProxyConfig)
    assert proxy.config.target == ":1"
    assert assembly.make_proxy(plugins, loads("lease: {type: one}", plugins=plugins, environment={}), NODE) is None


def test_litefs_services() -> None:
    specs = ServiceSpec("wanted", Made), ServiceSpec("unwanted", lambda config, node: None)  # type: ignore[arg-type]
    plugins = with_plugin("litefs_services", *specs)
    config: Any = object()
    services: Any = assembly.make_services(plugins, config, NODE)
    assert list(services) == ["wanted"]
    assert services["wanted"].config is config
    assert services["wanted"].node is NODE


def test_a_service_that_cannot_be_made_names_its_plugin() -> None:
    plugins = with_plugin("litefs_services", ServiceSpec("broken", lambda config, node: 1 / 0))  # type: ignore[arg-type,return-value]
    with pytest.raises(PluginError, match=r'plugin "sample".*cannot make "broken": ZeroDivisionError'):
        assembly.make_services(plugins, Any, NODE)  # type: ignore[arg-type]


class _Everything:
    @hookimpl
    def litefs_leasers(self) -> list[LeaserSpec]:
        return [LeaserSpec("one", Made)]  # type: ignore[arg-type]

    @hookimpl
    def litefs_backups(self) -> list[BackupSpec]:
        return [BackupSpec("two", Made, {"type": "object"})]  # type: ignore[arg-type]

    @hookimpl
    def litefs_proxies(self) -> list[ProxySpec]:
        return [ProxySpec("three", Made)]  # type: ignore[arg-type]

    @hookimpl
    def litefs_exec_policies(self) -> list[ExecPolicy]:
        schema = {"type": "string", "enum": ["h1", "h2"]}
        return [ExecPolicy("only-on", schema, lambda name, context: bool(name == context.hostname), "another host's")]


def test_litefs_exec_policies() -> None:
    plugins = Plugins([BUILTIN, Plugin("sample", _Everything())])
    text = "lease: {type: one}\nexec: [{cmd: a, only-on: h1}, {cmd: b, if-candidate: true}]"
    first, second = loads(text, plugins=plugins, environment={}).exec
    assert (first.policies, second.policies) == ({"only-on": "h1"}, {"if-candidate": True})
    assert plugins.exec_policies["only-on"].admits("h1", ExecContext("h1", candidate=True, is_primary=False))
    assert not plugins.exec_policies["only-on"].admits("h1", ExecContext("h2", candidate=True, is_primary=False))
    with pytest.raises(ConfigError, match=r"exec\[0\]\.only-on: must be either 'h1' or 'h2'"):
        loads("lease: {type: one}\nexec: [{cmd: a, only-on: h3}]", plugins=plugins, environment={})


@pytest.mark.parametrize(
    ("key", "primary", "replica", "spectator"),  # on the primary, on a candidate that is not, on one that is none
    [
        ("if-candidate", True, True, False),
        ("if-primary", True, False, False),
        ("if-replica", False, True, True),
        ("once-on-primary", True, None, None),
    ],
)
def test_the_built_in_exec_policies_use_the_hook(
    key: str, primary: bool, replica: bool | None, spectator: bool | None
) -> None:
    policy = Plugins([BUILTIN]).exec_policies[key]
    contexts = [
        ExecContext("h", candidate=True, is_primary=True, primary="h"),
        ExecContext("h", candidate=True, is_primary=False, primary="p"),
        ExecContext("h", candidate=False, is_primary=False),
    ]
    assert [policy.admits(True, context) for context in contexts] == [primary, replica, spectator]
    assert [policy.admits(False, context) for context in contexts] == [True] * 3


def test_litefs_commands() -> None:
    spec = CommandSpec("greet", "module:command", "say hello")
    assert with_plugin("litefs_commands", spec).commands["greet"] is spec
    with pytest.raises(PluginError, match=r'"sample".* brings the command "mount", as plugin "kernel"'):
        _ = with_plugin("litefs_commands", CommandSpec("mount", "x:y", "")).commands


def test_litefs_metrics() -> None:
    class Sheep(Collector):
        def collect(self) -> list[GaugeMetricFamily]:
            return [GaugeMetricFamily("sheep", "Sheep counted.", 3)]

    collector = Sheep()
    assert with_plugin("litefs_metrics", collector).metrics == [collector]


def test_litefs_config_sections() -> None:
    section = ConfigSection("farm", {"type": "object", "properties": {"sheep": {"type": "integer", "default": 3}}})
    plugins = Plugins([BUILTIN, Plugin("lease", _Everything()), Plugin("farm", _Farm(section))])
    config = loads("lease: {type: one}", plugins=plugins, environment={})
    assert config.section("farm") == {"sheep": 3}


class _Farm:
    def __init__(self, *sections: ConfigSection) -> None:
        self.sections = sections

    @hookimpl
    def litefs_config_sections(self) -> list[ConfigSection]:
        return list(self.sections)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (ConfigSection("data", {"properties": {"dir": {"type": "string"}}}), 'defines "data.dir" of litefs.yml, which'),
        (ConfigSection("exec", {"type": "string"}), 'defines "exec" of litefs.yml, which is defined already'),
        (ConfigSection("no.such", {"type": "string"}), 'there is no section "no"'),
    ],
)
def test_sections_that_do_not_fit_blame_their_plugin(section: ConfigSection, message: str) -> None:
    plugins = Plugins([BUILTIN, Plugin("farm", _Farm(section))])
    with pytest.raises(PluginError, match=f'plugin "farm" .*{message}'):
        loads("lease: {type: one}", plugins=plugins, environment={})


def test_a_factory_that_fails_blames_its_plugin() -> None:
    def broken(config: LeaseConfig, node: NodeInfo) -> BaseLeaser:
        raise KeyError("url")

    plugins = with_plugin("litefs_leasers", LeaserSpec("sample", broken))  # type: ignore[arg-type]
    config = loads("lease: {type: sample}", plugins=plugins, environment={})
    with pytest.raises(PluginError, match=r'plugin "sample" .*cannot make "sample": KeyError'):
        assembly.make_leaser(plugins, config, NODE)


def test_a_factory_may_refuse_the_configuration() -> None:
    def picky(config: LeaseConfig, node: NodeInfo) -> BaseLeaser:
        raise ConfigError("no")

    plugins = with_plugin("litefs_leasers", LeaserSpec("sample", picky))  # type: ignore[arg-type]
    config = loads("lease: {type: sample}", plugins=plugins, environment={})
    with pytest.raises(ConfigError, match=r"^no$"):
        assembly.make_leaser(plugins, config, NODE)
