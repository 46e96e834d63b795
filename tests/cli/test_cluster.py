"""``litefs cluster``: forgetting and setting a cluster id, never behind the back of a running node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from litefs import cli
from litefs.datalock import locked
from tests.support.nodes import Node

ID, OTHER = "LFSC0123456789ABCDEF", "LFSCFEDCBA9876543210"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data" / "dbs" / "app.db").mkdir(parents=True)
    (tmp_path / "data" / "clusterid").write_text(f"{ID}\n")
    return tmp_path / "data"


def cluster(data: Path, *arguments: str) -> int:
    return cli.main(["cluster", arguments[0], "-data-dir", str(data), *arguments[1:]])


def test_reset_and_adopt(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster(data, "show") == 0
    assert capsys.readouterr().out == f"{ID}\n"
    assert cluster(data, "reset", "-yes") == 0
    out = capsys.readouterr().out
    assert "1 database." in out
    assert f"litefs cluster adopt {ID}" in out
    assert not (data / "clusterid").exists()
    assert cluster(data, "reset", "-yes") == 0
    assert "nothing to forget" in capsys.readouterr().out
    assert cluster(data, "adopt", "-yes", OTHER) == 0
    assert (data / "clusterid").read_text() == f"{OTHER}\n"
    assert "litefs cluster reset" in capsys.readouterr().out
    assert cluster(data, "adopt", OTHER) == 0
    assert "already" in capsys.readouterr().out


def test_nobody_to_ask(data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments in (["reset"], ["adopt", OTHER]):
        assert cluster(data, *arguments) == 1
        assert "add -yes" in capsys.readouterr().err
        assert (data / "clusterid").read_text() == f"{ID}\n"
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in (("n\n", 130), ("y\n", 0)):
        monkeypatch.setattr("click.termui.visible_prompt_func", lambda prompt, answer=answer: answer.strip())
        assert cluster(data, "reset") == code
    assert not (data / "clusterid").exists()


@pytest.mark.parametrize(
    "value", ["", "LFSC", "LFSC0123456789ABCDE", "lfsc0123456789abcdef", f"{ID}0", "LFSC 23456789ABCDEF0"]
)
def test_no_cluster_id(data: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster(data, "adopt", "-yes", value) == 1
    assert "invalid cluster id" in capsys.readouterr().err
    assert (data / "clusterid").read_text() == f"{ID}\n"


def test_a_running_daemon_is_left_alone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(data):
        for arguments in (["reset", "-yes"], ["adopt", "-yes", OTHER]):
            assert cluster(data, *arguments) == 1
            assert "in use by process" in capsys.readouterr().err
    assert (data / "clusterid").read_text() == f"{ID}\n"


def test_no_data_directory(tmp_path: Path) -> None:
    assert cluster(tmp_path / "none", "reset", "-yes") == 2
    assert not (tmp_path / "none").exists()


@pytest.mark.slow
def test_out_of_the_trap(make_node: Callable[..., Node]) -> None:
    """A node of another cluster is refused, the log names the way out, and that works."""
    primary = make_node("primary").start()
    other = make_node("other").start()
    for node in (primary, other):
        node.stop()
    primary.start()
    other._primary = primary
    other.configure({})
    other.spawn()
    from tests.support.waiting import wait_for

    wait_for(lambda: "litefs cluster reset" in other.log(), "hint")
    assert "different cluster id" in other.log()
    other.stop()
    assert cli.main(["cluster", "reset", "-config", str(other.configuration), "-yes"]) == 0
    other.start()
    assert (other.data / "clusterid").read_text() == (primary.data / "clusterid").read_text()
