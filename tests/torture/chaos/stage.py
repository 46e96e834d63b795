"""A primary, a replica and several writers on several databases, to which things happen."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support import chain
from tests.support.disks import FailingDisk, RealDisk, SmallDisk
from tests.support.nodes import Node
from tests.support.waiting import wait_for
from tests.torture.workload import History

from .writer import MODES, PAGE_SIZES

WRITER = Path(__file__).with_name("writer.py")
LIMIT = 60.0  # seconds for whatever should happen soon
WRITERS = 2
DATABASES = 3  # at a time
ROUNDS_PER_SET = 6  # so that replaying all LTX files stays cheap
DESCRIPTORS = 60  # by which a node may have more open than at first; a database has a handful
MEMORY = 60 << 20  # bytes by which it may have grown

MOUNT_LIMIT = 0.8  # seconds that a node usually takes to be mounted
FAILED_SYNC = "the disk has failed to store what was written"

Disk = SmallDisk | RealDisk | None


class Stage:
    """All of them, and what can happen.

    Args:
        disk, replica_disk: what the data directories lie on.

    Attributes:
        counts: what has happened how often.
    """

    def __init__(
        self, primary: Node, replica: Node | None, disk: Disk, replica_disk: Disk, folder: Path, seed: int
    ) -> None:
        self.primary = primary
        self.replica = replica
        self.counts: Counter[str] = Counter()
        self._disk = disk
        self._replica_disk = replica_disk
        self._folder = folder
        self._random = random.Random(seed)
        self._round = 0
        self._writers: list[subprocess.Popen[bytes]] = []
        self._histories: dict[str, History] = {}
        self._names: list[str] = []
        self._base: tuple[int, int] | None = None
        self._new_set()

    # ------------------------------------------------------------------------------------------------- databases

    def _new_set(self) -> None:
        for history in self._histories.values():
            history.close()
        pick = self._random.choice
        number = self._round // ROUNDS_PER_SET
        modes = [MODES[0], *(pick(MODES) for _ in range(DATABASES - 1))]
        self._names = [f"{mode}-{pick(PAGE_SIZES)}-{number}.{index}.db" for index, mode in enumerate(modes)]
        self._histories = {name: History(name) for name in self._names}

    def _lines(self) -> Iterator[list[str]]:
        for path in self._folder.glob("acknowledged.*"):
            for line in path.read_text().split("\n")[:-1]:
                yield line.split()

    def _newest(self, what: str, name: str) -> int:
        return max((int(n) for kind, of, n in self._lines() if kind == what and of == name), default=0)

    def acknowledged(self) -> int:
        """Number of transactions whose COMMIT has returned, of the present databases."""
        return sum(self._newest("done", name) for name in self._names)

    # --------------------------------------------------------------------------------------------------- writers

    def _start_writers(self) -> None:
        for index in range(WRITERS):
            record = self._folder / f"acknowledged.{index}"
            words = ["write", str(self.primary.mount), str(record), str(self._random.getrandbits(32)), *self._names]
            with open(self._folder / "writers.log", "ab") as log:
                self._writers.append(
                    subprocess.Popen(
                        [sys.executable, str(WRITER), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                )

    def _kill_writers(self) -> None:
        for writer in self._writers:
            if writer.poll() is None:
                writer.kill()
        for writer in self._writers:
            writer.wait(LIMIT)
        self._writers.clear()

    def _wait_for_commits(self, count: int) -> None:
        wanted = self.acknowledged() + count
        wait_for(lambda: self.acknowledged() >= wanted, f"{count} more commits: {self._log()}", LIMIT)
        time.sleep(self._random.uniform(0, 0.02))  # any moment, not the one right after a commit

    def _log(self) -> str:
        return (self._folder / "writers.log").read_text()[-2000:] + self.primary.log()[-2000:]

    # ---------------------------------------------------------------------------------------------------- events

    def events(self) -> list[Callable[[], None]]:
        """What can happen here."""
        found: list[Callable[[], None]] = [self.kill_daemon, self.kill_writer, self.kill_everyone, self.stop_daemon]
        found.append(self.kill_while_starting)
        if self.replica is not None:
            found += [self.kill_replica, self.stop_replica, self.kill_replica_while_starting]
        if isinstance(self._disk, SmallDisk):
            found.append(self.fill_disk)
        if isinstance(self._disk, RealDisk):
            found += [self.cut_power, self.cut_power]
        if isinstance(self._disk, FailingDisk):
            found += [self.fail_disk, self.fail_disk, self.start_on_failing_disk]
        if isinstance(self._replica_disk, RealDisk):
            found.append(self.cut_power_of_replica)
        if isinstance(self._replica_disk, FailingDisk):
            found.append(self.fail_disk_of_replica)
        return found

    def kill_daemon(self) -> None:
        self.primary.kill()
        self.counts["kills"] += 1
        self._base = None
        self.primary.start()
        self._wait_for_commits(1)  # writers that live on go on

    def kill_writer(self) -> None:
        self._random.choice(self._writers).kill()
        self.counts["kills"] += 1
        self._wait_for_commits(2)

    def kill_everyone(self) -> None:
        self.primary.kill()
        self._kill_writers()
        self.counts["kills"] += 1 + WRITERS
        self._base = None
        self.primary.start()

    def kill_replica(self) -> None:
        assert self.replica is not None
        self.replica.kill()
        self.counts["kills"] += 1
        self._wait_for_commits(3)
        self.replica.start()

    def kill_while_starting(self) -> None:
        """The daemon is killed, and again in the middle of what it does to recover; writers may use it meanwhile."""
        self.primary.kill()
        self._base = None
        if self._random.randrange(2):
            self._kill_writers()
        self._kill_in_starts(self.primary)
        self.primary.start()

    def kill_replica_while_starting(self) -> None:
        assert self.replica is not None
        self.replica.kill()
        self._wait_for_commits(3)
        self._kill_in_starts(self.replica)
        self.replica.start()

    def _kill_in_starts(self, node: Node) -> None:
        for _ in range(self._random.randrange(1, 4)):
            node.spawn()
            if self._random.randrange(2):
                node.wait_ready()  # databases are recovered when they are first used
                time.sleep(self._random.uniform(0, 0.03))
            else:
                time.sleep(self._random.uniform(0, MOUNT_LIMIT))
            node.kill()
            self.counts["kills while starting"] += 1

    def stop_daemon(self) -> None:
        with self._stopped(self.primary):
            time.sleep(self._random.uniform(0, 0.5))
        self._wait_for_commits(1)

    def stop_replica(self) -> None:
        assert self.replica is not None
        with self._stopped(self.replica):
            self._wait_for_commits(5)

    @contextmanager
    def _stopped(self, node: Node) -> Iterator[None]:
        assert node.process is not None
        os.kill(node.process.pid, signal.SIGSTOP)
        self.counts["stops"] += 1
        try:
            yield
        finally:
            os.kill(node.process.pid, signal.SIGCONT)

    def fill_disk(self) -> None:
        """No space for a while; writers are refused, and go on afterwards."""
        assert isinstance(self._disk, SmallDisk)
        total = self._fill(self._disk, self._random.choice([4096, 65536, 300_000]))
        start = (self._folder / "writers.log").stat().st_size
        with suppress(AssertionError):  # what fits may be enough
            wait_for(lambda: (self._folder / "writers.log").stat().st_size > start, "an error", 2.0)
        if self._random.randrange(2):
            self.primary.kill()
            self.counts["kills"] += 1
            self._base = None
            self._kill_writers()
            self._disk.resize(total)
            self.primary.start()
        else:
            self._disk.resize(total)
            self._wait_for_commits(1)
        self.counts["full disks"] += 1

    @staticmethod
    def _fill(small: SmallDisk, left: int) -> int:
        """Leave that many bytes; how many the disk had."""

        def try_it() -> int:
            disk = os.statvfs(small.path)
            with suppress(subprocess.CalledProcessError):  # more was written meanwhile than would fit
                small.resize((disk.f_blocks - disk.f_bfree) * disk.f_frsize + left)
                return disk.f_blocks * disk.f_frsize
            return 0

        return wait_for(try_it, "full disk")

    def cut_power(self) -> None:
        """The disk of the primary is as after power failure, by the file system's own word; it comes back."""
        assert isinstance(self._disk, RealDisk)
        self._disk.fail()
        self._random.choice([lambda: None, lambda: time.sleep(0.1)])()  # for a while every call fails
        self.primary.kill()
        self._kill_writers()
        self._base = None
        self._disk.come_back()
        self.primary.start()
        self.counts["power failures"] += 1

    def cut_power_of_replica(self) -> None:
        """The replica's disk is as after power failure; it fetches what it has lost by that."""
        assert self.replica is not None
        assert isinstance(self._replica_disk, RealDisk)
        self._replica_disk.fail()
        self._wait_for_commits(1)
        self.replica.kill()
        self._replica_disk.come_back()
        self.replica.start()
        self.counts["power failures"] += 1

    def fail_disk(self) -> None:
        """What is written does not reach the disk for a moment; nothing that comes after may count on it."""
        assert isinstance(self._disk, FailingDisk)
        self._fail(self._disk, self.primary)
        self._kill_writers()
        self._base = None
        self._end_after_failure(self._disk, self.primary)
        self.primary.start()

    def start_on_failing_disk(self) -> None:
        """Recovery itself cannot store what it writes; the next one can."""
        assert isinstance(self._disk, FailingDisk)
        self.primary.kill()
        self._kill_writers()
        self._base = None
        with self._disk.failing():
            self.primary.spawn()
            time.sleep(self._random.uniform(0.2, 2 * MOUNT_LIMIT))
        if self._random.randrange(2):
            self.primary.kill()
        if not self._disk.writable:
            self.primary.kill()
            self._disk.come_back()
        if not self.primary.running:
            self.primary.start()
        self.primary.wait_ready()
        self.counts["starts on failing disks"] += 1

    def fail_disk_of_replica(self) -> None:
        assert self.replica is not None
        assert isinstance(self._replica_disk, FailingDisk)
        self._fail(self._replica_disk, self.replica)
        self._end_after_failure(self._replica_disk, self.replica)
        self.replica.start()

    def _fail(self, disk: FailingDisk, node: Node) -> None:
        with disk.failing():
            if self._random.randrange(2):
                time.sleep(self._random.uniform(0, 0.3))
                subprocess.run(["sync", "-f", disk.path], capture_output=True)  # nobody tells the node
            else:
                with suppress(AssertionError):  # there may be no sync of a new block
                    wait_for(lambda: FAILED_SYNC in node.log(), "failed sync", self._random.uniform(0.3, 1.5))
        time.sleep(self._random.uniform(0, 0.3))  # writers go on, or try to
        self.counts["failing disks"] += 1
        self.counts["databases with failed syncs"] += node.log().count(FAILED_SYNC)

    def _end_after_failure(self, disk: FailingDisk, node: Node) -> None:
        how = self._random.randrange(3)
        if how == 0:
            disk.fail()
        if how == 1:
            node.stop()
        else:
            node.kill()
            self.counts["kills"] += 1
        if how == 0 or not disk.writable:  # a table of the file system was hit: it has ended itself
            disk.come_back()
            self.counts["power failures"] += 1

    # -------------------------------------------------------------------------------------------------- a round

    def round(self) -> None:
        """One thing happens under load, and everything is looked at."""
        if self._round and self._round % ROUNDS_PER_SET == 0:
            self._new_set()
        self._round += 1
        self._start_writers()
        self._wait_for_commits(self._random.randrange(1, 25))
        event = self._random.choice(self.events())
        try:
            event()
        except AssertionError as error:
            raise AssertionError(f"{event.__name__}: {error}") from error
        self.counts["kills"] += sum(writer.poll() is None for writer in self._writers)
        self._kill_writers()
        self.counts["rounds"] += 1
        try:
            self.check()
        except AssertionError as error:
            raise AssertionError(f"after {event.__name__}: {error}") from error

    def check(self) -> None:
        """Nothing acknowledged is lost, nothing is half there, and nodes agree byte by byte."""
        for name, (n, digest, sound) in self._ask(self.primary).items():
            assert sound == ["ok"], f"{name}: {sound[:3]}"
            done, begun = self._newest("done", name), self._newest("begin", name)
            assert done <= n <= max(done, begun), f"{name}: {done} acknowledged, {begun} begun, {n} there"
            assert digest == self._histories[name].digest(n) or (n == 0 and digest == self._histories[name].empty), (
                f"{name}: not what transactions 1 to {n} leave"
            )
            self.counts["transactions checked"] += 1
        names = list(self._ask(self.primary))
        self._run("settle", self.primary, names)
        self._note_settled(names)
        for name in names:
            pos = self.primary.pos(name)
            # A file in the middle of the chain was not stored: then those before it are put aside with it.
            cut = f"{name}: an LTX file is not whole, those before lead nowhere" in self.primary.log_file.read_text()
            replayed = (chain.check_end if cut else chain.check)(self.primary.files(name), pos)
            self.counts["LTX files verified"] += replayed.files
            if self.replica is not None:
                self.replica.wait_pos(name, pos, LIMIT)
                assert chain.files_image(self.replica.files(name)) == replayed.image, f"{name}: the replica differs"
        self._check_resources()

    def _note_settled(self, names: list[str]) -> None:
        found = self._ask(self.primary)
        with open(self._folder / "acknowledged.settled", "a") as file:
            file.writelines(f"begin {name} {found[name][0]}\ndone {name} {found[name][0]}\n" for name in names)

    def _ask(self, node: Node) -> dict[str, tuple[int, str, list[str]]]:
        return {name: tuple(values) for name, values in json.loads(self._run("check", node, self._names)).items()}

    def _run(self, what: str, node: Node, names: list[str]) -> str:
        command = [sys.executable, str(WRITER), what, str(node.mount), *names]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _check_resources(self) -> None:
        """Memory and descriptors of the primary stay where they were, as long as it has not been started anew."""
        assert self.primary.process is not None
        folder = Path(f"/proc/{self.primary.process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        found = len(list((folder / "fd").iterdir())), pages * os.sysconf("SC_PAGE_SIZE")
        if self._base is None:
            self._base = found
        assert found[0] <= self._base[0] + DESCRIPTORS, f"{found[0]} descriptors, {self._base[0]} at first"
        assert found[1] <= self._base[1] + MEMORY, f"{found[1] >> 20} MiB, {self._base[1] >> 20} at first"
        self.counts["largest MiB"] = max(self.counts["largest MiB"], found[1] >> 20)
        self.counts["most descriptors"] = max(self.counts["most descriptors"], found[0])

    def close(self) -> None:
        """End the writers."""
        for node in (self.primary, self.replica):
            if node is not None and node.running and node.process is not None:
                os.kill(node.process.pid, signal.SIGCONT)
        self._kill_writers()
        for history in self._histories.values():
            history.close()
