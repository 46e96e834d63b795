"""The lease file: litefs's conformance suite, and what is special about a file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator
from pathlib import Path

import litefs_lease_file as plugin
import pytest
import trio
from litefs_lease_file import store
from litefs_lease_file.command import command
from litefs_lease_file.leaser import FileLeaser
from litefs_lease_file.store import LeaseFile

from litefs.errors import ConfigError
from litefs.leases import LeaseUnavailable, PrimaryInfo
from litefs.testing import LeaseConformance, lease_config, node_info

NODE = PrimaryInfo("one", "http://one:20202")


class TestConformance(LeaseConformance):
    """With a wall clock that moves only when the suite says so."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "shared"
        self.folder.mkdir()
        self.now = 1e9

    async def leaser(self, name: str) -> FileLeaser:
        file = LeaseFile(str(self.folder / "lease"), skew=0.1, clock=lambda: self.now)
        return FileLeaser(file, name, f"http://{name}:20202", ttl=10.0)

    async def pass_time(self, seconds: float) -> None:
        await trio.lowlevel.checkpoint()
        self.now += seconds

    async def revoke(self) -> None:
        state = LeaseFile(str(self.folder / "lease")).read()
        (self.folder / "lease").write_text(json.dumps({"cluster_id": state.cluster_id}))

    @contextlib.asynccontextmanager
    async def outage(self):  # type: ignore[no-untyped-def]
        away = self.folder.rename(self.folder.with_name("away"))
        self.folder.write_text("not a folder")
        yield
        self.folder.unlink()
        away.rename(self.folder)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lease"


def test_settings(path: Path) -> None:
    leaser = plugin.make(lease_config(plugin, {"type": "file", "file": {"path": str(path)}}), node_info("h", 80))
    assert (leaser.hostname, leaser.advertise_url) == ("h", "http://h:80")
    section = {"type": "file", "hostname": "a", "advertise-url": "http://b", "file": {"path": str(path), "ttl": "3s"}}
    leaser = plugin.make(lease_config(plugin, section), node_info())
    assert (leaser.hostname, leaser.advertise_url) == ("a", "http://b")
    assert trio.run(leaser.acquire).ttl == 3.0


@pytest.mark.parametrize(
    ("section", "message"),
    [({}, r"lease\.file\.path: is required"), ({"path": "lease"}, "write an absolute path"), ({"pth": "/a"}, "path")],
)
def test_wrong_settings(section: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lease_config(plugin, {"type": "file", "file": section})


def test_others_wait_for_the_ttl_and_the_skew(path: Path) -> None:
    now = [100.0]
    file = LeaseFile(str(path), skew=2.0, clock=lambda: now[0])
    file.take("id", NODE, 10.0)
    for now[0], held in [(109.9, True), (111.9, True), (112.1, False)]:
        assert (file.holder() == NODE) == held


def test_the_file_is_replaced_in_one_step(path: Path) -> None:
    LeaseFile(str(path)).take("id", NODE, 10.0)
    assert json.loads(path.read_text())["hostname"] == "one"
    assert sorted(item.name for item in path.parent.iterdir()) == ["lease", "lease.lock"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"other": 1}'])
def test_a_foreign_file_is_left_alone(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(LeaseUnavailable, match="lease: not a lease file: remove it"):
        LeaseFile(str(path)).take("id", NODE, 10.0)
    assert path.read_text() == content


@pytest.fixture
def somebody_changing(path: Path) -> Iterator[None]:
    with open(f"{path}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("somebody_changing")
def test_a_node_that_hangs_while_changing_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_LIMIT", 0.05)
    started = time.monotonic()
    with pytest.raises(LeaseUnavailable, match="locked for more than"):
        LeaseFile(str(path)).take("id", NODE, 10.0)
    assert time.monotonic() - started < 1


@pytest.mark.usefixtures("somebody_changing")
def test_a_call_that_blocks_can_be_cancelled(path: Path) -> None:
    async def main() -> None:
        leaser = FileLeaser(LeaseFile(str(path)), "one", "http://one:1", ttl=1.0)
        with trio.fail_after(1), trio.move_on_after(0.02) as scope:
            await leaser.acquire()
        assert scope.cancelled_caught

    trio.run(main)


def test_command(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main([str(path)], standalone_mode=False)
    LeaseFile(str(path)).take("id", NODE, 10.0)
    command.main([str(path)], standalone_mode=False)
    assert capsys.readouterr().out == "nobody\none http://one:20202\n"


def test_renewals_are_counted(path: Path) -> None:
    async def main() -> None:
        lease = await FileLeaser(LeaseFile(str(path)), "one", "http://one:1", ttl=1.0).acquire()
        await lease.renew()

    (collector,) = plugin.litefs_metrics()

    def total() -> float:
        return next(sample.value for metric in collector.collect() for sample in metric.samples)

    before = total()
    trio.run(main)
    assert total() == before + 1
