from __future__ import annotations

import pytest

from litefs.ltx import Pos
from litefs.store.publisher import Captured, Publisher, State


class Log(list[int]):
    def publish(self, captured: Captured) -> None:
        self.append(captured.state.pos.txid)


@pytest.fixture
def published() -> Log:
    return Log()


def transaction(txid: int, *, accepted: bool = False, durable: bool = False) -> Captured:
    before, after = State(Pos(txid - 1, 1)), State(Pos(txid, 1))
    return Captured(after, before, undo=[(1, 2)], accepted=accepted, durable=durable)


def test_both_conditions_in_either_order(published: Log) -> None:
    publisher = Publisher(published.publish)
    publisher.add(transaction(1))
    publisher.accept()
    assert published == []
    publisher.made_durable(1)
    assert published == [1]
    publisher.add(transaction(2))
    publisher.made_durable(2)
    assert published == [1]
    publisher.accept()
    assert published == [1, 2]
    assert len(publisher) == 0


def test_at_once(published: Log) -> None:
    publisher = Publisher(published.publish)
    publisher.add(transaction(1, accepted=True, durable=True))
    assert published == [1]


def test_in_order(published: Log) -> None:
    publisher = Publisher(published.publish)
    publisher.add(transaction(1, accepted=True))
    publisher.add(transaction(2, accepted=True, durable=True))
    publisher.add(transaction(3, accepted=True))
    assert published == []
    assert publisher.undurable
    publisher.made_durable(2)
    assert published == [1, 2]
    publisher.made_durable(3)
    assert published == [1, 2, 3]
    assert not publisher.undurable


def test_only_the_newest_is_in_doubt_and_can_be_taken_back(published: Log) -> None:
    publisher = Publisher(published.publish)
    assert publisher.in_doubt is None
    publisher.add(transaction(1, accepted=True))
    assert publisher.in_doubt is None
    publisher.add(transaction(2))
    assert publisher.in_doubt is not None
    taken = publisher.retract()
    assert (taken.state.pos.txid, taken.undo) == (2, [(1, 2)])
    assert publisher.in_doubt is None
    publisher.made_durable(2)
    assert published == [1]


def test_what_is_accepted_needs_no_undo(published: Log) -> None:
    publisher = Publisher(published.publish)
    captured = transaction(1)
    publisher.add(captured)
    publisher.accept()
    assert captured.undo == []
