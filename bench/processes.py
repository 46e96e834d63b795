"""What /proc says about the processes under measurement."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

_IDLE = 0.05  # seconds without a clock tick of work that count as idle


def children(pid: int) -> list[int]:
    """Direct children of a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue
    return found


def peak_memory(pid: int) -> int:
    """Most bytes that were resident at one time; 0 when the process is gone."""
    return _memory(pid, "VmHWM:")


def resident(pid: int) -> int:
    """Bytes that are resident; 0 when the process is gone."""
    return _memory(pid, "VmRSS:")


def forget_peak(pid: int) -> None:
    """From now on the peak is that of what is resident now, and later."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory(pid: int, key: str) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def cpu_ticks(pids: list[int]) -> int:
    """Clock ticks that processes have worked."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            continue
    return total


def cpu_seconds(pids: list[int]) -> float:
    """Seconds that processes have worked."""
    return cpu_ticks(pids) / os.sysconf("SC_CLK_TCK")


def settle(pids: list[int], path: Path, limit: float = 5.0) -> None:
    """Wait until processes have nothing left to do and a file system is on disk: nobody pays for another's writes."""
    subprocess.run(["sync", "-f", path], check=False)
    deadline = time.monotonic() + limit
    before = cpu_ticks(pids)
    while time.monotonic() < deadline:
        time.sleep(_IDLE)
        now = cpu_ticks(pids)
        if now == before:
            return
        before = now
