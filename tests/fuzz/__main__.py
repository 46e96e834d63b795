"""The long form: coverage-guided, with atheris.

    python -m tests.fuzz                                      all targets in turn, a minute each
    python -m tests.fuzz --seconds 600 stream                 one, ten minutes
    python -m tests.fuzz --corpus DIRECTORY                   what was learned there is gone on from, and kept
    python -m tests.fuzz --replay .fuzz/stream/crash-... stream

Needs ``pip install atheris``. Each target runs in a process of its own. Input that made one fail is kept in
``.fuzz/TARGET``, and the exit code says whether there was any. With ``--corpus`` the targets that have waited longest
come first, so a run that is broken off is gone on with by the next one.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

FAILURES = Path(".fuzz")
GRACE = 120.0  # seconds beyond its time after which a target is taken to hang
LARGEST = 8192  # bytes of an input
MODULES = [
    "litefs", "litefs_backup_cloud", "litefs_backup_s3", "litefs_backup_store", "litefs_cloud_server",
    "litefs_lease_consul", "litefs_proxy_fly",
]  # fmt: skip
_COUNT = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def main() -> int:
    """Run the targets one after another; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, metavar="DIRECTORY", help="keep input that is worth keeping there")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="feed this to the targets, and nothing else")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        fuzz(options.one, options.seconds, options.corpus)
    from tests.fuzz.targets import TARGETS

    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"no target {name}; there are {', '.join(sorted(TARGETS))}")
    names = options.targets or sorted(TARGETS)
    if options.replay:
        for name in names:
            TARGETS[name](options.replay.read_bytes())
        return 0
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install atheris")
    with tempfile.TemporaryDirectory(prefix="fuzz") as scratch:
        return run(names, options.seconds, options.corpus or Path(scratch))


def run(names: Sequence[str], seconds: int, corpus: Path) -> int:
    """Each target in a process of its own, those first that have waited longest."""
    failed, total = [], 0
    for name in sorted(names, key=lambda name: (_last(corpus / name), name)):
        good, count = _apart(name, seconds, corpus)
        print(f"{name}: {count} inputs{'' if good else ', FAILED'}", flush=True)
        total += count
        if not good:
            failed.append(name)
    print(f"{len(names)} targets, {total} inputs, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _last(corpus: Path) -> float:
    return corpus.stat().st_mtime if corpus.exists() else 0.0


def _apart(name: str, seconds: int, corpus: Path) -> tuple[bool, int]:
    """Whether nothing was found, and how many inputs were tried."""
    command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--seconds", str(seconds), "--corpus", str(corpus)]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz", dir=memory) as scratch, tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, env={**os.environ, "TMPDIR": scratch}, stdout=output, stderr=output)
        try:
            good = process.wait(seconds + GRACE) == 0
        except subprocess.TimeoutExpired:
            good = False
            print(f"{name} hangs", flush=True)
        finally:
            process.kill()
            process.wait()
        output.seek(0)
        text = output.read()
    if not good:
        print(text[-5000:], flush=True)
    (corpus / name).touch()
    return good, sum(map(int, _COUNT.findall(text)))


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Feed one target until the time is over, or it fails. Does not return."""
    import atheris

    with atheris.instrument_imports(include=MODULES):
        from tests.fuzz.targets import SEEDS, TARGETS

    corpus, failures = folder / name, FAILURES / name
    corpus.mkdir(parents=True, exist_ok=True)
    failures.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    atheris.Setup(
        [
            "fuzz",
            f"-max_total_time={seconds}",
            f"-artifact_prefix={failures}/",
            f"-max_len={LARGEST}",
            "-timeout=30",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
            str(corpus),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
