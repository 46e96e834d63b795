import pytest
import trio
import trio.testing

from litefs.errors import LitefsError
from litefs.lifecycle import Lifecycle, PartEnded, at_once


def run(main):
    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Diary(list):
    """What happened, in order."""

    def part(self, name):
        async def start(*, task_status):
            self.append(f"{name} up")
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self.append(f"{name} down")

        return start


def test_parts_end_in_reverse_order_and_leave_first():
    diary, life = Diary(), Lifecycle()

    async def leave(ended):
        diary.append("inner leaves")
        await trio.sleep(1)
        diary.append("inner left")

    async def body():
        async with life.part("outer", diary.part("outer")), life.part("inner", diary.part("inner"), leave=leave):
            life.stop()
            await trio.sleep_forever()

    run(lambda: life.run(body))
    assert diary == ["outer up", "inner up", "inner leaves", "inner left", "inner down", "outer down"]


def test_outer_parts_work_while_inner_ones_end():
    life, ticks = Lifecycle(), []

    async def outer():
        while True:
            await trio.sleep(0.1)
            ticks.append(trio.current_time())

    async def leave(ended):
        before = len(ticks)
        await trio.sleep(1)
        assert len(ticks) - before >= 9

    async def body():
        async with life.part("outer", at_once(outer)), life.part("inner", at_once(trio.sleep_forever), leave=leave):
            life.stop()
            await trio.sleep_forever()

    run(lambda: life.run(body))


def test_work_that_ends_when_asked_is_not_cancelled():
    life, asked, diary = Lifecycle(), trio.Event(), []

    async def work():
        await asked.wait()
        await trio.sleep(1)
        diary.append("done")

    async def leave(ended):
        asked.set()
        await ended.wait()

    async def body():
        async with life.part("part", at_once(work), leave=leave):
            pass

    run(lambda: life.run(body))
    assert diary == ["done"]


def test_a_part_that_does_not_leave_is_cancelled_at_its_deadline(caplog):
    life = Lifecycle()

    async def body():
        async with life.part("slowpoke", at_once(trio.sleep_forever), leave=lambda ended: trio.sleep(1000), grace=7):
            pass
        assert trio.current_time() - start == 7

    async def main():
        nonlocal start
        start = trio.current_time()
        await life.run(body)

    start = 0.0
    run(main)
    assert "slowpoke does not end within 7.0 seconds" in caplog.text


def test_hurry_shortens_waits_under_way_and_later_ones(caplog):
    life = Lifecycle()

    async def forever(ended):
        await trio.sleep_forever()

    async def impatient():
        await trio.sleep(3)
        life.hurry(1)

    async def body():
        async with (
            life.part("outer", at_once(trio.sleep_forever), leave=forever, grace=100),
            life.part("inner", at_once(trio.sleep_forever), leave=forever, grace=100),
        ):
            pass

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(impatient)
            start = trio.current_time()
            await life.run(body)
            assert trio.current_time() - start == 5

    run(main)


def test_a_failing_part_stops_everything():
    diary, life = Diary(), Lifecycle()

    async def fail():
        await trio.sleep(1)
        raise LitefsError("broken")

    async def body():
        async with life.part("sound", diary.part("sound")), life.part("failing", at_once(fail)):
            await trio.sleep_forever()

    with pytest.raises(LitefsError, match="broken"):
        run(lambda: life.run(body))
    assert diary == ["sound up", "sound down"]


def test_a_part_that_ends_by_itself_is_a_failure():
    life = Lifecycle()

    async def body():
        async with life.part("mount", at_once(trio.lowlevel.checkpoint)):
            await trio.sleep_forever()

    with pytest.raises(PartEnded, match="mount ended unexpectedly"):
        run(lambda: life.run(body))


def test_a_part_that_fails_to_start_fails_its_block():
    life, seen = Lifecycle(), []

    async def start(*, task_status):
        raise LitefsError("cannot start")

    async def body():
        try:
            async with life.part("part", start):
                raise AssertionError
        except LitefsError as error:
            seen.append(str(error))
            assert not life.stopped

    run(lambda: life.run(body))
    assert seen == ["cannot start"]


def test_stopping_while_a_part_starts():
    life, diary = Lifecycle(), Diary()

    async def start(*, task_status):
        life.stop()
        await trio.sleep(10)
        raise AssertionError

    async def body():
        async with life.part("outer", diary.part("outer")), life.part("part", start):
            raise AssertionError

    run(lambda: life.run(body))
    assert diary == ["outer up", "outer down"]


def test_the_first_failure_counts(caplog):
    life = Lifecycle()

    async def leave(ended):
        raise LitefsError("second")

    async def body():
        async with life.part("part", at_once(trio.sleep_forever), leave=leave):
            raise LitefsError("first")

    with pytest.raises(LitefsError, match="first"):
        run(lambda: life.run(body))
    assert "while stopping: second" in caplog.text
