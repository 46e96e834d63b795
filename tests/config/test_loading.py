"""litefs.yml as the program sees it: values, defaults, search path, environment."""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from litefs.config import Config, ExecCommand, check, find, load, loads
from litefs.config.commands import Kind
from litefs.errors import ConfigError, LitefsError
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
    assert config.exec == (ExecCommand("a b", {"if-candidate": True}, Kind.TASK), ExecCommand("c", {}))
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


# --------------------------------------------------------------------------------------------------------- as a whole


def test_everything_litefs_knows(make: Make) -> None:
    """Each key of LiteFS, in a file that LiteFS accepts."""
    config = make(EVERYTHING, FLY_REGION="ord", PRIMARY_REGION="ord", HOSTNAME="h1", FLY_CONSUL_URL="https://:t@c/p/")
    assert config.lease.candidate is True
    assert config.lease.advertise_url == "http://h1.vm.internal:20202"
    assert config.proxy.passthrough == ("*.ico", "/static/*")
    assert config.proxy.idle_timeout == 60.0
    assert config.tracing.max_size == 128
    assert [entry.if_candidate for entry in config.exec] == [True, False]


EVERYTHING = """
exit-on-error: false
skip-sync: false
strict-verify: false
exec:
  - cmd: "npx prisma migrate deploy"
    if-candidate: true
  - cmd: npm start
data:
  dir: "/var/lib/litefs"
  compress: false
  retention: "10m"
  retention-monitor-interval: 1m
fuse: {dir: /litefs, allow-other: true, debug: false}
http:
  addr: ":20202"
  snapshot-timeout: 1m
proxy:
  addr: ":8080"
  target: "localhost:8081"
  db: sqlite.db
  max-lag: 10s
  debug: false
  passthrough:
    - "*.ico"
    - "/static/*"
  always-forward: ["/oauth/*"]
  primary-redirect-timeout: 5s
  read-timeout: 10s
  write-timeout: 0s
  read-header-timeout: 10s
  idle-timeout: 60s
lease:
  type: "static"
  hostname: $HOSTNAME
  advertise-url: "http://${HOSTNAME}.vm.${FLY_APP_NAME}internal:20202"
  candidate: ${FLY_REGION == PRIMARY_REGION}
  promote: true
  reconnect-delay: 1s
  demote-delay: 10s
  databases: []
  consul:
    url: "${FLY_CONSUL_URL}"
    key: "litefs/app"
    ttl: 10s
    lock-delay: 1s
backup:
  type: ""
  path: ""
  url: "https://litefs.fly.io"
  cluster: ""
  auth-token: ""
log: {format: text, timestamp: false, debug: false}
tracing:
  enabled: true
  path: /var/log/lib/litefs
  max-size: 128
  max-count: 5
  compress: yes
"""

WORDS = st.sampled_from(["lease", "type", "static", "data", "dir", "exec", "cmd", "http", "addr", "1s", "${A}", "x"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)


@given(st.one_of(JSON.map(yaml.safe_dump), st.text(alphabet="aA:-[]{}&*!|>'\"#%@` \n\t\0\ud800${}=0", max_size=40)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_makes_any_other_error(plugins: Plugins, text: str) -> None:
    with contextlib.suppress(LitefsError):
        loads(text, plugins=plugins, environment={"A": "static"})


def test_a_good_file_is_read_without_heavy_imports(tmp_path: Path) -> None:
    """A node must be mounted 0.3 s after its start, and jsonschema alone takes 50 ms to import."""
    file = tmp_path / "litefs.yml"
    file.write_text("lease: {type: static}\nexec: [{cmd: a, if-candidate: true}]\ndata: {retention: 1h}\n")
    heavy = "{'jsonschema', 'numpy', 'httpx', 'prometheus_client', 'starlette', 'hypercorn', 'rich', 'trio'}"
    code = f"import sys, litefs.config; litefs.config.load({str(file)!r}); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
