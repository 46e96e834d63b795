"""Which other nodes a node has heard of, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from litefs.cluster.members import FORGET_AFTER, Members
from litefs.errors import StreamError
from litefs.leases import PrimaryInfo
from litefs.replication import members as messages
from litefs.replication.members import MAX_MEMBERS, Member, introduced

OWN = Member(1, "own", "http://own:20202", True)
OTHER = Member(2, "other", "http://other:20202", False)


def known(path: Path) -> Members:
    return Members(path / "members.json", lambda: OWN)


def test_remembered_over_a_restart(tmp_path: Path) -> None:
    found = known(tmp_path)
    changes: list[int] = []
    found.changed = lambda: changes.append(1)
    found.learn([OTHER, OWN])
    found.learn([OTHER])
    assert changes == [1]
    assert found.others == [OTHER]
    assert messages.decode(found.announcement()) == [OWN, OTHER]
    assert known(tmp_path).others == [OTHER]


def test_a_restarted_node_is_the_same(tmp_path: Path) -> None:
    found = known(tmp_path)
    again = Member(9, "renamed", OTHER.advertise_url, True)
    found.learn([OTHER])
    found.learn([again])
    assert found.others == [again]
    found.met(PrimaryInfo("renamed", OTHER.advertise_url))
    assert found.others == [again], "what the lease says is less than it said itself"


def test_the_last_primary_is_known_by_its_url(tmp_path: Path) -> None:
    found = known(tmp_path)
    found.met(PrimaryInfo("p", "http://p:1"))
    found.met(PrimaryInfo("p", "no url"))
    assert found.others == [Member(0, "p", "http://p:1", True)]


def test_the_primary_forgets_who_has_been_away_for_a_day(tmp_path: Path) -> None:
    now = 0.0
    found = Members(tmp_path / "members.json", lambda: OWN, lambda: now)
    third = Member(3, "third", "http://third:20202", True)
    found.learn([OTHER, third])
    found.sweep(None)
    now = FORGET_AFTER * 2
    found.sweep(None)
    found.sweep([third.advertise_url])
    assert found.others == [OTHER, third], "only time as primary counts"
    now += FORGET_AFTER / 2
    found.sweep([third.advertise_url])
    now += FORGET_AFTER / 2 + 1
    changes: list[int] = []
    found.changed = lambda: changes.append(1)
    found.sweep([])
    assert found.others == [third]
    assert changes == [1]
    assert known(tmp_path).others == [third]


def test_replicas_know_whom_the_primary_knows(tmp_path: Path) -> None:
    found = known(tmp_path)
    third = Member(3, "third", "http://third:20202", True)
    found.told([OTHER, third, OWN])
    assert found.others == [OTHER, third]
    found.told([third, OWN])
    assert found.others == [third]
    assert known(tmp_path).others == [third]


def test_old_ones_make_room(tmp_path: Path) -> None:
    found = known(tmp_path)
    for n in range(1, MAX_MEMBERS + 10):
        found.learn([Member(n, "", f"http://host:{n}", True)])
    assert len(found.others) == MAX_MEMBERS
    assert found.others[-1].id == MAX_MEMBERS + 9
    assert len(messages.decode(found.announcement())) == MAX_MEMBERS


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"id": "1"}]', b"[" * 10**5])
def test_an_unreadable_file_is_no_obstacle(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "members.json").write_bytes(content)
    assert known(tmp_path).others == []
    assert "other nodes have to be met again" in caplog.text


def test_introduction() -> None:
    assert introduced(2, OTHER.headers()) == OTHER
    assert introduced(2, {}) is None
    assert introduced(2, {"litefs-candidate": "true", "litefs-advertise-url": "file:///x"}) == Member(2, "", "", True)
    assert Member(1, "é\r\n", "", True).headers() == {"litefs-candidate": "true"}


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://a:99999", "http://a:0", "x", "http://" + "a" * 2000], ids=lambda url: url[:12]
)
def test_bad_urls(url: str) -> None:
    assert not messages.is_url(url)
    with pytest.raises(StreamError, match="cannot be read"):
        messages.decode(messages.encode([Member(1, "", url, True)]))
