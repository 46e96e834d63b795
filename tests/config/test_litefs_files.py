"""Files as LiteFS's users have them: its reference, its examples, a well-known stack.  Keys and values are theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from litefs.config import Config, load, loads
from litefs.plugins import load as load_plugins
from litefs.supervisor import from_entry

REFERENCE = """
fuse:
  dir: "/litefs"
  allow-other: false
  debug: false
data:
  dir: "/var/lib/litefs"
  retention: "10m"
  retention-monitor-interval: "1m"
exec: "myapp -addr :8081"
skip-sync: false
exit-on-error: false
http:
  addr: ":20202"
proxy:
  addr: ":8080"
  target: "localhost:8081"
  db: "my.db"
  debug: false
  passthrough: ["/debug/*", "*.png"]
lease:
  type: "consul"
  advertise-url: "http://myhost:20202"
  hostname: "myhost"
  candidate: true
  consul:
    url: "http://myhost:8500"
    key: "litefs/primary"
    ttl: "10s"
    lock-delay: "1s"
tracing:
  path: "/var/log/lifefs/trace.log"
  max-size: 64
  max-count: 10
  compress: true
"""

ON_FLY = """
fuse:
  dir: "/litefs"
data:
  dir: "/var/lib/litefs"
exit-on-error: false
proxy:
  addr: ":8080"
  target: "localhost:8081"
  db: "db"
  passthrough:
    - "*.ico"
    - "*.png"
exec:
  - cmd: "litefs-example -addr :8081 -dsn /litefs/db"
lease:
  type: "consul"
  advertise-url: "http://${HOSTNAME}.vm.${FLY_APP_NAME}.internal:20202"
  candidate: ${FLY_REGION == PRIMARY_REGION}
  promote: true
  consul:
    url: "${FLY_CONSUL_URL}"
    key: "litefs/${FLY_APP_NAME}"
"""

IN_DOCKER = """
fuse:
  dir: "/litefs"
data:
  dir: "/var/lib/litefs"
lease:
  type: "static"
  advertise-url: "http://primary:20202"
  hostname: "primary"
  candidate: $IS_PRIMARY
exec:
  - cmd: "litefs-example -addr :8081 -dsn /litefs/db"
"""

STACK = """
fuse:
  dir: '${LITEFS_DIR}'
data:
  dir: '/data/litefs'
proxy:
  addr: ':${INTERNAL_PORT}'
  target: 'localhost:${PORT}'
  db: '${DATABASE_FILENAME}'
lease:
  type: 'consul'
  candidate: ${FLY_REGION == PRIMARY_REGION}
  promote: true
  advertise-url: 'http://${HOSTNAME}.vm.${FLY_APP_NAME}.internal:20202'
  consul:
    url: '${FLY_CONSUL_URL}'
    key: 'epic-stack-litefs_20250222/${FLY_APP_NAME}'
exec:
  - cmd: npx prisma migrate deploy
    if-candidate: true
  - cmd: sqlite3 $DATABASE_PATH "PRAGMA journal_mode = WAL;"
    if-candidate: true
  - cmd: sqlite3 $CACHE_DATABASE_PATH "PRAGMA journal_mode = WAL;"
    if-candidate: true
  - cmd: npm start
"""

ENVIRONMENT = {
    "FLY_APP_NAME": "app",
    "FLY_REGION": "ord",
    "PRIMARY_REGION": "ord",
    "FLY_CONSUL_URL": "https://:token@consul.fly.example/app-1234/",
    "HOSTNAME": "178e4",
    "IS_PRIMARY": "true",
    "LITEFS_DIR": "/litefs/data",
    "INTERNAL_PORT": "8080",
    "PORT": "8081",
    "DATABASE_FILENAME": "sqlite.db",
    "DATABASE_PATH": "/litefs/data/sqlite.db",
    "CACHE_DATABASE_PATH": "/litefs/data/cache.db",
}


def read(text: str, **more: str) -> Config:
    config = loads(text, plugins=load_plugins(), environment={**ENVIRONMENT, **more})
    assert not config.warnings
    return config


def words(config: Config) -> list[list[str]]:
    return [list(from_entry(entry).argv) for entry in config.exec]


def test_the_reference() -> None:
    config = read(REFERENCE)
    assert words(config) == [["myapp", "-addr", ":8081"]]
    assert (config.lease.section["ttl"], config.lease.section["lock-delay"]) == (10.0, 1.0)
    assert (config.proxy.target, config.proxy.passthrough) == ("localhost:8081", ("/debug/*", "*.png"))
    assert config.exit_on_error is False


@pytest.mark.parametrize(("region", "candidate"), [("ord", True), ("fra", False)])
def test_the_example_on_fly(region: str, candidate: bool) -> None:
    config = read(ON_FLY, FLY_REGION=region)
    assert (config.lease.candidate, config.lease.promote) == (candidate, True)
    assert config.lease.advertise_url == "http://178e4.vm.app.internal:20202"
    assert config.lease.section["key"] == "litefs/app"
    assert words(config) == [["litefs-example", "-addr", ":8081", "-dsn", "/litefs/db"]]


@pytest.mark.parametrize("primary", ["true", "false"])
def test_the_example_in_docker(primary: str) -> None:
    config = read(IN_DOCKER, IS_PRIMARY=primary)
    assert (config.lease.type, config.lease.candidate) == ("static", primary == "true")
    assert config.data.dir == Path("/var/lib/litefs")


def test_a_stack_with_migrations() -> None:
    config = read(STACK)
    assert [entry.if_candidate for entry in config.exec] == [True, True, True, False]
    assert words(config)[1] == ["sqlite3", "/litefs/data/sqlite.db", "PRAGMA journal_mode = WAL;"]
    assert (config.proxy.addr, config.proxy.target, config.proxy.db) == (":8080", "localhost:8081", "sqlite.db")


def test_comments_and_line_ends(tmp_path: Path) -> None:
    """Variables are expanded in comments, too."""
    for number, text in enumerate([REFERENCE, ON_FLY, IN_DOCKER, STACK]):
        file = tmp_path / f"{number}.yml"
        commented = "".join(f"# a ${{COMMENT}} with $WORDS & 'quotes'\n{line}\n" for line in text.splitlines())
        file.write_bytes(commented.replace("\n", "\r\n").encode())
        load(file, plugins=load_plugins(), environment=dict(ENVIRONMENT))
