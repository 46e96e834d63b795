"""``litefs plugin new``: what it makes installs, is found, and passes its conformance suite, somewhere clean."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from litefs.cli.plugin import KINDS, TEMPLATES, files
from tests.plugins.conftest import Environment

NAME = "own-thing"


@pytest.fixture(scope="module")
def folders(installed: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """One plugin of each kind, made, built and installed."""
    place = tmp_path_factory.mktemp("new")
    wheels = place / "wheels"
    for kind in KINDS:
        done = installed.run("litefs", "plugin", "new", kind, NAME, cwd=place)
        assert done.returncode == 0, done.stderr
        assert f"cd litefs-{kind}-{NAME}" in done.stdout
    made = {kind: place / f"litefs-{kind}-{NAME}" for kind in KINDS}
    builds = [
        subprocess.Popen([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], cwd=folder)
        for folder in made.values()
    ]
    assert [build.wait(120) for build in builds] == [0] * len(KINDS)
    installed.install(*wheels.glob("*.whl"))
    yield made
    installed.uninstall(*(folder.name for folder in made.values()))


def test_they_are_found(installed: Environment, folders: dict[str, Path], tmp_path: Path) -> None:
    lines = installed.run("litefs", "plugins", cwd=tmp_path).stdout.splitlines()
    brings = {line.split()[2]: line.split("  ")[-1].strip() for line in lines}
    assert brings["litefs-lease-own-thing"] == "lease: own-thing"
    assert brings["litefs-backup-own-thing"] == "backup: own-thing"
    assert brings["litefs-proxy-own-thing"] == "proxy: own-thing"
    assert brings["litefs-exec-own-thing"] == "exec policy: own-thing"


def test_a_configuration_may_name_all(installed: Environment, folders: dict[str, Path], tmp_path: Path) -> None:
    sections = ["fuse:\n  dir: /litefs\n"]
    for folder in folders.values():
        (block,) = re.findall(r"^```yaml\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
        sections.append(block.replace("worker --all", "true"))
    file = tmp_path / "litefs.yml"
    file.write_text("".join(sections))
    done = installed.run("litefs", "config", "check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{file}: ok\n"), done.stderr


def test_they_pass_their_suites(installed: Environment, folders: dict[str, Path], tmp_path: Path) -> None:
    tests = [folder / "tests" for folder in folders.values()]
    done = installed.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "failed" not in done.stdout.splitlines()[-1]


def test_a_name_that_is_taken(installed: Environment, folders: dict[str, Path], tmp_path: Path) -> None:
    for words, said in (
        (("lease", "file"), 'ERROR: there is one called "file" for lease already: find another name'),
        (("exec", "if-primary"), 'ERROR: there is one called "if-primary" for exec already: find another name'),
        (("proxy", "My_Proxy"), 'ERROR: a plugin cannot be called "My_Proxy": use lower-case letters'),
    ):
        done = installed.run("litefs", "plugin", "new", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(said)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(installed: Environment, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine").touch()
    done = installed.run("litefs", "plugin", "new", "lease", "another", "-dir", "here", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "ERROR: here is there already: remove it, or name another with -dir\n")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["mine"]


@pytest.mark.parametrize("kind", KINDS)
def test_no_trace_of_the_template_is_left(kind: str) -> None:
    made = dict(files(kind, NAME))
    assert (
        len(made) == len([path for path in (TEMPLATES / kind).rglob("*") if path.suffix in (".py", ".md", ".toml")]) + 1
    )
    assert not [path for path, text in made.items() if "sample" in (str(path) + text).lower()]
