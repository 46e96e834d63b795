"""``litefs plugin new``: what it makes installs, is found, and passes its conformance suite, beside the kernel's wheel.

Not in an environment of its own, as the example's tests are: installing what the kernel needs takes longer than all the
rest. The wheels are in a folder that comes before the source tree.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from litefs.cli.plugin import KINDS, TEMPLATES, files

NAME = "own-thing"


class Wheels:
    """A folder with installed wheels, and programs that find it first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, *wheels: Path) -> None:
        """Install without what they need."""
        words = ["install", "-q", "--no-deps", "--no-compile", "--disable-pip-version-check", "--target", self.folder]
        subprocess.run([sys.executable, "-m", "pip", *words, *wheels], check=True, timeout=300)

    def run(self, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments, whatever its exit code."""
        environment = {**os.environ, "PYTHONPATH": str(self.folder)}
        words = (sys.executable, *words)
        return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, check=False)

    def litefs(self, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the wheel."""
        return self.run("-c", "import sys, litefs.cli; sys.exit(litefs.cli.main())", *words, cwd=cwd)


@pytest.fixture(scope="module")
def installed(wheel: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """The kernel's wheel."""
    found = Wheels(tmp_path_factory.mktemp("site"))
    found.install(wheel("."))
    place = tmp_path_factory.mktemp("empty")
    assert found.run("-c", "import litefs; print(litefs.__file__)", cwd=place).stdout.startswith(str(found.folder))
    return found


@pytest.fixture(scope="module")
def folders(installed: Wheels, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One plugin of each kind, made, built and installed."""
    place = tmp_path_factory.mktemp("new")
    wheels = place / "wheels"
    for kind in KINDS:
        done = installed.litefs("plugin", "new", kind, NAME, cwd=place)
        assert done.returncode == 0, done.stderr
        assert f"cd litefs-{kind}-{NAME}" in done.stdout
    made = {kind: place / f"litefs-{kind}-{NAME}" for kind in KINDS}
    builds = [
        subprocess.Popen([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], cwd=folder)
        for folder in made.values()
    ]
    assert [build.wait(120) for build in builds] == [0] * len(KINDS)
    installed.install(*wheels.glob("*.whl"))
    return made


def test_they_are_found(installed: Wheels, folders: dict[str, Path], tmp_path: Path) -> None:
    lines = installed.litefs("plugins", cwd=tmp_path).stdout.splitlines()
    brings = {line.split()[2]: line.split("  ")[-1].strip() for line in lines}
    assert brings["litefs-lease-own-thing"] == "lease: own-thing"
    assert brings["litefs-backup-own-thing"] == "backup: own-thing"
    assert brings["litefs-proxy-own-thing"] == "proxy: own-thing"
    assert brings["litefs-exec-own-thing"] == "exec policy: own-thing"


def test_a_configuration_may_name_all(installed: Wheels, folders: dict[str, Path], tmp_path: Path) -> None:
    sections = ["fuse:\n  dir: /litefs\n"]
    for folder in folders.values():
        (block,) = re.findall(r"^```yaml\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        sections.append(block.replace("worker --all", "true"))
    file = tmp_path / "litefs.yml"
    file.write_text("".join(sections))
    done = installed.litefs("config", "check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{file}: ok\n"), done.stderr


def test_they_pass_their_suites(installed: Wheels, folders: dict[str, Path], tmp_path: Path) -> None:
    tests = [folder / "tests" for folder in folders.values()]
    done = installed.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]


def test_a_name_that_is_taken(installed: Wheels, folders: dict[str, Path], tmp_path: Path) -> None:
    for words, said in (
        (("lease", "static"), 'ERROR: there is one called "static" for lease already: find another name'),
        (("exec", "if-primary"), 'ERROR: there is one called "if-primary" for exec already: find another name'),
        (("proxy", "My_Proxy"), 'ERROR: a plugin cannot be called "My_Proxy": use lower-case letters'),
    ):
        done = installed.litefs("plugin", "new", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(installed: Wheels, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine").touch()
    done = installed.litefs("plugin", "new", "lease", "another", "-dir", "here", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "ERROR: here is there already: remove it, or name another with -dir\n")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_trace_of_the_template_is_left(kind: str) -> None:
    made = dict(files(kind, NAME))
    assert (
        len(made) == len([path for path in (TEMPLATES / kind).rglob("*") if path.suffix in (".py", ".md", ".toml")]) + 1
    )
    assert not [path for path, text in made.items() if "sample" in (str(path) + text).lower()]
