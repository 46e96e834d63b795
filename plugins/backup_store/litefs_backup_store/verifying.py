"""Reading a whole backup in a process of its own, so that it takes nothing from a node but idle time.

``python -m litefs_backup_store.verifying`` gets the ``backup`` section as a line of JSON on its standard input, which
stays open as long as somebody wants the result; that is a line of JSON on its standard output.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from litefs.backup import BackupError, Verification
from litefs.config import BackupConfig
from litefs_backup_store.checking import check

if TYPE_CHECKING:
    from litefs_backup_store.vault import Vault

SHOWN = 20
"""Problems that are told; the others are counted."""

LOOK = 0.5
"""Seconds between two looks whether anybody still wants the result."""


class Stopped(Exception):
    """Nobody wants the result any more."""


def verify(vault: Vault) -> Verification:
    """Read everything. Raises StorageError when that is not possible."""
    started = time.monotonic()
    names = sorted(vault.positions())
    shown: list[str] = []
    count = 0
    for name in names:
        for finding in check(vault, name, lambda _: None):
            count += 1
            if len(shown) < SHOWN:
                shown.append(str(finding))
    return Verification(time.time(), time.monotonic() - started, len(names), tuple(shown), count)


def verify_apart(config: BackupConfig, is_wanted: Callable[[], bool]) -> Verification:
    """`verify`, in a process of low priority. Blocking.

    Raises:
        Stopped: `is_wanted` said no.
        BackupError: it could not be done.
    """
    command = [sys.executable, "-m", "litefs_backup_store.verifying"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(_plain(config)).encode() + b"\n")
            process.stdin.flush()
            while process.poll() is None:
                if not is_wanted():
                    raise Stopped
                with suppress(subprocess.TimeoutExpired):
                    process.wait(LOOK)
            return _result(process.stdout.read())
        except BrokenPipeError:
            raise BackupError("the process that verifies has ended at once") from None
        finally:
            process.kill()


def _plain(config: BackupConfig) -> dict[str, Any]:
    """A configuration as JSON has it; `asdict` cannot copy a section that is no dict."""
    return {name: getattr(config, name) for name in config.__slots__ if name != "section"} | {
        "section": dict(config.section)
    }


def _result(text: bytes) -> Verification:
    try:
        answer = json.loads(text)
        if "error" in answer:
            raise BackupError(str(answer["error"]))
        return Verification(**{**answer, "problems": tuple(answer["problems"])})
    except (ValueError, KeyError, TypeError):
        raise BackupError("the process that verifies has ended without a result") from None


def main() -> None:
    """The process."""
    config = BackupConfig(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        os.nice(19)
    from litefs_backup_store.opening import open_objects
    from litefs_backup_store.vault import Vault

    try:
        answer: dict[str, Any] = asdict(verify(Vault(open_objects(config))))
    except (BackupError, OSError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
    os._exit(0)  # the thread is waiting for the end of standard input


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    main()
