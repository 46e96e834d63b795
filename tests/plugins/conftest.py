"""Wheels of this source tree, and clean environments to install them into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class Environment:
    """A virtual environment that knows nothing of this source tree.

    Args:
        path: where to make it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.python = path / "bin" / "python"
        self._uv = shutil.which("uv")
        make = [self._uv, "venv", "-q", "--python", sys.executable] if self._uv else [sys.executable, "-m", "venv"]
        done = _run([*make, str(path)])
        assert done.returncode == 0, done.stderr

    def install(self, *requirements: str | Path) -> None:
        """Install wheels or packages with what they need: from uv's cache where that suffices, it is far quicker."""
        words = list(map(str, requirements))
        if not (self._uv and self._pip("install", "--offline", *words).returncode == 0):
            done = self._pip("install", *words)
            assert done.returncode == 0, done.stderr

    def uninstall(self, name: str) -> None:
        """Remove a distribution."""
        done = self._pip("uninstall", name)
        assert done.returncode == 0, done.stderr

    def run(self, command: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, whatever its exit code."""
        hidden = ("PYTHONPATH", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        words = [str(self.path / "bin" / command), *map(str, arguments)]
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False)

    def _pip(self, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        if self._uv:
            return _run([self._uv, "pip", verb, "-q", "--python", str(self.python), *arguments])
        yes = ["-y"] if verb == "uninstall" else []
        return _run([str(self.python), "-m", "pip", verb, "-q", *yes, *arguments])


def _unneeded(folder: str, names: list[str]) -> set[str]:
    """What no build needs; the templates have tests that are part of the product."""
    left_out = set() if "templates" in Path(folder).parts else {"tests", "bench", "demo", "dist", "build"}
    return {name for name in names if name.startswith(".") or name == "__pycache__" or name in left_out}


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Factory: wheel("plugins/lease_static") builds that folder of the source tree, "." the kernel."""
    made: dict[str, Path] = {}

    def build(folder: str) -> Path:
        if folder not in made:
            # A copy, so that the build neither sees nor leaves anything in the working tree.
            source = tmp_path_factory.mktemp("source") / "tree"
            shutil.copytree(ROOT / folder, source, ignore=_unneeded, symlinks=True)
            out = tmp_path_factory.mktemp("wheels")
            subprocess.run(
                [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
                cwd=source,
                check=True,
                capture_output=True,
                timeout=120,
            )
            (made[folder],) = out.glob("*.whl")
        return made[folder]

    return build


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An empty environment, shared by the tests of a session."""
    return Environment(tmp_path_factory.mktemp("environment") / "venv")
