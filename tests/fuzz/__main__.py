"""The long form: coverage-guided, with atheris.

    python -m tests.fuzz                            all targets, a minute each
    python -m tests.fuzz --seconds 600 stream       one, ten minutes

Needs ``pip install atheris``. Each target runs in a process of its own; input that was worth keeping lies in --corpus,
what made it fail in its directory ``failures``, and the exit code says whether there was any.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path


def main() -> int:
    """Run the targets one after another; 1 when one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if importlib.util.find_spec("atheris") is None:
        parser.error("atheris is not installed: pip install atheris")
    if options.one:
        fuzz(options.one, options.seconds, options.corpus)
    from .targets import TARGETS

    failed = []
    for name in options.targets or sorted(TARGETS):
        if name not in TARGETS:
            parser.error(f"no target {name}; there are {', '.join(sorted(TARGETS))}")
        command = [sys.executable, "-m", "tests.fuzz", "--one", name, "--seconds", str(options.seconds)]
        if subprocess.run([*command, "--corpus", str(options.corpus)]).returncode:
            failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "no failures")
    return 1 if failed else 0


def fuzz(name: str, seconds: int, folder: Path) -> None:
    """Feed one target until the time is over, or it fails. Does not return."""
    import atheris

    with atheris.instrument_imports(
        include=["litefs", "litefs_backup_cloud", "litefs_backup_store", "litefs_proxy_fly"]
    ):
        from .targets import SEEDS, TARGETS

    corpus, failures = folder / name, folder / "failures" / name
    corpus.mkdir(parents=True, exist_ok=True)
    failures.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed{number}").write_bytes(seed)
    print(f"{name}:", flush=True)
    atheris.Setup(
        [
            "fuzz",
            f"-max_total_time={seconds}",
            f"-artifact_prefix={failures}/",
            "-max_len=8192",
            "-timeout=30",
            "-rss_limit_mb=2048",
            "-verbosity=0",
            "-print_final_stats=1",
            str(corpus),
        ],
        TARGETS[name],
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
