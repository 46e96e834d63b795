"""litefs.yml as the program sees it: values, defaults, search path, environment."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from litefs.config import Config, ExecCommand, check, find, load, loads
from litefs.errors import ConfigError
from litefs.plugins import Plugins

Make = Callable[..., Config]


def test_defaults(make: Make) -> None:
    config = make()
    assert config.exit_on_error is True
    assert config.skip_sync is config.strict_verify is False
    assert config.exec == ()
    assert config.data.dir == Path("/var/lib/litefs")
    assert config.data.compress is True
    assert (config.data.retention, config.data.retention_monitor_interval) == (600.0, 60.0)
    assert config.fuse.dir == Path("/litefs")
    assert config.http.addr == ":20202"
    assert (config.http.host, config.http.port, config.http.secure) == ("", 20202, False)
    assert config.lease.candidate is True
    assert (config.lease.reconnect_delay, config.lease.demote_delay) == (1.0, 10.0)
    assert config.lease.databases == ()
    assert config.proxy.target == config.backup.type == ""
    assert config.proxy.max_lag == 10.0
    assert (config.tracing.enabled, config.tracing.max_size, config.tracing.max_count) == (True, 64, 8)
    assert config.log.format == "text"


def test_values(make: Make) -> None:
    config = make(
        "lease: {type: sample, candidate: no, databases: [a, 5], sample: {key: k, ttl: 1m}}\n"
        "data: {retention: 1h2m, retention-monitor-interval: -1s}\n"
        "exec: [{cmd: a b, if-candidate: true}, {cmd: c}]\n"
        "http: {addr: '[::1]:80', x-limit: 8}\n"
        "audit: {to: me}\n"
    )
    assert config.lease.databases == ("a", "5")
    assert config.lease.section == {"key": "k", "ttl": 60.0}
    assert (config.data.retention, config.data.retention_monitor_interval) == (3720.0, -1.0)
    assert config.exec == (ExecCommand("a b", {"if-candidate": True}), ExecCommand("c", {}))
    assert [command.if_candidate for command in config.exec] == [True, False]
    assert (config.http.host, config.http.port) == ("::1", 80)
    assert config.section("audit") == {"to": "me", "every": 60.0}
    assert config.section("http")["x-limit"] == 8
    assert config.section("absent") == {}


def test_sections_without_content_have_defaults(make: Make) -> None:
    config = make("data:\nfuse: {}\nexec:\naudit:\n")
    assert config.data.retention == 600.0
    assert config.exec == ()
    assert config.section("audit") == {"every": 60.0}


def test_frozen(make: Make) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().data.compress = False  # type: ignore[misc]


@pytest.mark.parametrize(("text", "commands"), [("a 'b c'", ["a 'b c'"]), ("''", []), ("'  '", []), ("[]", [])])
def test_exec_as_text(make: Make, text: str, commands: list[str]) -> None:
    assert [command.cmd for command in make(f"exec: {text}").exec] == commands


def test_environment(make: Make) -> None:
    text = "lease: {type: static, candidate: \"${A == 'x'}\", hostname: $NAME}".replace('"', "")
    assert make(text, A="x", NAME="no").lease.candidate is True
    assert make(text, A="y", NAME="no").lease.candidate is False
    assert make(text, A="y", NAME="no").lease.hostname == "no"


def test_environment_is_left_alone_where_asked(plugins: Plugins) -> None:
    config = loads("lease: {type: static, hostname: $NAME}", False, plugins=plugins, environment={"NAME": "z"})
    assert config.lease.hostname == "$NAME"


def test_hostname_is_set_for_the_expansion_and_for_children(plugins: Plugins) -> None:
    environment: dict[str, str] = {}
    config = loads("lease: {type: static, hostname: $HOSTNAME}", plugins=plugins, environment=environment)
    assert config.lease.hostname == environment["HOSTNAME"] != ""
    loads("lease: {type: static}", plugins=plugins, environment=(given := {"HOSTNAME": "h"}))
    assert given == {"HOSTNAME": "h"}


def test_an_unset_candidate_is_refused(make: Make) -> None:
    """LiteFS takes it for true, and two nodes may believe to be primary."""
    with pytest.raises(ConfigError, match=r"lease\.candidate: is empty"):
        make("lease: {type: static, candidate: $UNSET}")


def test_backup_implied_by_the_environment(make: Make) -> None:
    assert make().backup.type == ""
    config = make(SHELF="1")
    assert config.backup.type == "shelf"
    assert config.backup.section == {"level": 3}


def test_warning_for_a_backup_that_is_asked_for_but_not_installed(make: Make) -> None:
    assert make().warnings == ()
    (warning,) = make(LITEFS_CLOUD_TOKEN="t").warnings
    assert "pip install litefs-backup-cloud" in warning


def test_token_file(make: Make, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hunter2\n")
    config = make(f"http: {{auth-token-file: {file}}}")
    assert config.http.auth_token == "hunter2"
    assert "hunter2" not in repr(config)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty"):
        make(f"http: {{auth-token-file: {file}}}")
    with pytest.raises(ConfigError, match=r"cannot read .*: No such file"):
        make("http: {auth-token-file: /nonexistent/token}")


def test_data_directory_reached_through_a_link_into_the_mount(make: Make, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mnt")
    with pytest.raises(ConfigError, match="cannot be inside"):
        make(f"fuse: {{dir: {tmp_path}/mnt}}\ndata: {{dir: {tmp_path}/link/data}}")


# ------------------------------------------------------------------------------------------------------------- files


def test_load(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "other.yml"
    file.write_text("lease: {type: static}\n")
    said: list[str] = []
    config = load(file, plugins=plugins, environment={}, announce=said.append)
    assert config.path == str(file)
    assert said == [f"config file read from {file}"]


def test_announced_before_it_is_checked(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "litefs.yml"
    file.write_text("")
    said: list[str] = []
    with pytest.raises(ConfigError, match=f"{file}: EOF"):
        load(file, plugins=plugins, environment={}, announce=said.append)
    assert said


def test_search_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    (home / "litefs.yml").write_text("")
    assert find() == home / "litefs.yml"
    (work / "litefs.yml").write_text("")
    assert find() == work / "litefs.yml"


def test_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: Plugins) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("litefs.config.loading.search_path", lambda: (tmp_path / "litefs.yml",))
    with pytest.raises(ConfigError, match=r"config file not found: looked for .*/litefs\.yml; name one with -config"):
        find()
    with pytest.raises(ConfigError, match=r"config file not found: .*/absent\.yml"):
        load(tmp_path / "absent.yml", plugins=plugins)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, plugins=plugins)


def test_not_utf8(plugins: Plugins, tmp_path: Path) -> None:
    file = tmp_path / "litefs.yml"
    file.write_bytes(b"lease:\n  type: \xff\n")
    with pytest.raises(ConfigError, match=":2: not UTF-8"):
        check(file, plugins=plugins, environment={})
    file.write_bytes(b"\xef\xbb\xbflease:\n  type: static\n")
    check(file, plugins=plugins, environment={})
