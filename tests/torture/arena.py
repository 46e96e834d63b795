"""A primary, a replica and an application under load, one of which is killed without warning again and again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from litefs.ltx import Pos
from tests.support import chain
from tests.support.nodes import Node
from tests.support.waiting import wait_for

LOAD = Path(__file__).with_name("load.py")
LIMIT = 30.0  # seconds for whatever should happen soon
ROUNDS_PER_DATABASE = 8  # so that replaying all of its LTX files stays cheap


class Arena:
    """The three of them.

    Attributes:
        counts: what was killed how often, and what was seen.
    """

    def __init__(self, primary: Node, replica: Node | None, directory: Path, mode: str, seed: int) -> None:
        self.primary = primary
        self.replica = replica
        self.counts: Counter[str] = Counter()
        self._directory = directory
        self._mode = mode
        self._random = random.Random(seed)
        self._round = 0
        self._seen = 0  # transactions of the present database that are counted
        self._writer: subprocess.Popen[bytes] | None = None

    # ---------------------------------------------------------------------------------------------------- the load

    @property
    def name(self) -> str:
        """The database of the present round."""
        return f"{self._mode}-{self._round // ROUNDS_PER_DATABASE}.db"

    @property
    def _record(self) -> Path:
        return self._directory / f"{self.name}.acknowledged"

    def acknowledged(self) -> int:
        """Number of the newest transaction whose COMMIT has returned."""
        lines = self._record.read_bytes().split(b"\n") if self._record.exists() else []
        return int(lines[-2]) if len(lines) > 1 else 0

    def _start_writer(self, limit: int | None = None) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(LOAD), "write", self.primary.path(self.name), self._mode, str(self._record)]
        command += [] if limit is None else [str(limit)]
        with open(self._directory / "writer.log", "ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _run_load(self) -> None:
        """Have the application commit some transactions, and go on."""
        writer = self._writer = self._start_writer()
        wanted = self.acknowledged() + self._random.randrange(1, 40)

        def arrived() -> bool:
            assert writer.poll() is None, f"the writer has failed: {self._writer_log()}"
            return self.acknowledged() >= wanted

        wait_for(arrived, f"transaction {wanted}", LIMIT)
        time.sleep(self._random.uniform(0, 0.02))  # any moment, not the one right after a commit

    def _writer_log(self) -> str:
        return (self._directory / "writer.log").read_text()[-2000:]

    def _kill_writer(self) -> None:
        assert self._writer is not None
        if self._writer.poll() is None:
            os.kill(self._writer.pid, signal.SIGKILL)
        self._writer.wait(LIMIT)

    # ---------------------------------------------------------------------------------------------------- the kills

    def round(self, victims: list[str]) -> None:
        """Kill each of these once: "daemon", "writer", "replica", "client" (the daemon's own), or two joined by "+"."""
        for victim in victims:
            self._run_load()
            for one in victim.split("+"):
                getattr(self, f"_kill_{one}")()
            self.counts[f"{victim} killed"] += 1
            if "daemon" in victim:
                assert self._writer is not None
                self._writer.wait(LIMIT)  # its mount is dead, so it is told of an error
                self.primary.start()
            elif "replica" in victim:
                assert self.replica is not None
                self.replica.start()
            self._kill_writer()
            self.check()
        self._round += 1
        if self._round % ROUNDS_PER_DATABASE == 0:
            self._seen = 0

    def _kill_daemon(self) -> None:
        self.primary.kill()

    def _kill_replica(self) -> None:
        assert self.replica is not None
        self.replica.kill()

    def _kill_client(self) -> None:
        assert self.primary.process is not None
        pid = self.primary.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in children:
            if b"litefs.live.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)

    # ---------------------------------------------------------------------------------------------------- the checks

    def check(self) -> None:
        """Nothing acknowledged is lost, the LTX files are one chain, the replica has the same bytes."""
        found = self._ask(self.primary)
        last = self.acknowledged()
        assert last <= found["last"] <= last + 1, f"acknowledged: {last}, found: {found}"
        self.counts["transactions that were committed but not acknowledged"] += found["last"] - last
        self._settle()
        self.counts["transactions acknowledged"] += self.acknowledged() - self._seen
        self._seen = self.acknowledged()
        pos = self.primary.pos(self.name)
        replayed = chain.check(self.primary.files(self.name), pos)
        self.counts["LTX files verified"] += replayed.files
        if self.replica is not None:
            self._check_replica(pos, replayed.image)

    def _ask(self, node: Node) -> dict[str, int]:
        command = [sys.executable, str(LOAD), "check", node.path(self.name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["integrity"] == ["ok"], found
        assert found["rows"] == found["last"] == found["total"], found
        del found["integrity"]
        return dict(found)

    def _settle(self) -> None:
        """One more transaction, and all is published that will be."""
        writer = self._start_writer(limit=1)
        assert writer.wait(LIMIT) == 0, self._writer_log()

    def _check_replica(self, pos: Pos, image: bytes) -> None:
        assert self.replica is not None
        self.replica.wait_pos(self.name, pos, LIMIT)
        found = self._ask(self.replica)
        assert found["last"] == self.acknowledged()
        files = self.replica.files(self.name)
        assert chain.replay(files).pos == pos
        assert chain.files_image(files) == image, "the replica differs"

    def close(self) -> None:
        """End the application."""
        if self._writer is not None:
            self._kill_writer()
