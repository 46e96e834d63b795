"""The plugin manager: discovery, and errors that name the distribution at fault."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from litefs import plugins as manager
from litefs.errors import PluginError
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec
from litefs.plugins import BUILTIN, Plugin, Plugins

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Factory: install(name, source) puts a module and the metadata of its distribution on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    modules: list[str] = []

    def put(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[litefs]\n{name} = {name}\n")
        modules.append(name)

    yield put
    for name in modules:
        sys.modules.pop(name, None)


def all_plugins() -> Plugins:
    return Plugins([BUILTIN, *manager.discover()])


GOOD = """
from litefs.hookspecs import hookimpl
from litefs.leases import LeaserSpec

@hookimpl
def litefs_leasers():
    return [LeaserSpec("one", None)]
"""


def test_discovery(install: Install) -> None:
    install("good_one", GOOD)
    plugins = all_plugins()
    (plugin,) = [plugin for plugin in plugins if plugin.name == "good_one"]
    assert (plugin.distribution, plugin.version) == ("good_one", "1.2")
    assert plugins.hooks(plugin) == ("litefs_leasers",)
    assert plugins.leasers["one"].type == "one"
    assert plugins.owner(plugins.leasers["one"]) is plugin


def test_the_built_in_plugin_is_one_of_them() -> None:
    (kernel,) = Plugins([BUILTIN])
    assert (kernel.name, kernel.distribution) == ("kernel", "litefs-core")
    assert kernel.version


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise RuntimeError('boom')", "cannot be imported: RuntimeError: boom"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("def f(:", "cannot be imported: SyntaxError"),
        (GOOD.replace("litefs_leasers", "litefs_lesers"), "implements an unknown hook: .*litefs_lesers"),
        (GOOD.replace("leasers()", "leasers(config)"), "cannot be registered: .*config"),
        (GOOD.replace("def lite", "async def lite"), "has an async litefs_leasers"),
    ],
)
def test_a_plugin_that_cannot_be_registered(install: Install, source: str, message: str) -> None:
    install("bad_one", source)
    expected = rf'(?s)plugin "bad_one" \(distribution bad_one 1\.2\) {message}.*pip uninstall bad_one'
    with pytest.raises(PluginError, match=expected):
        all_plugins()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    return [1 // 0]", "failed in litefs_leasers: ZeroDivisionError"),
        ("    return ['one']", "returned a str from litefs_leasers, where LeaserSpec is expected"),
        ("    return None", "failed in litefs_leasers: TypeError"),
    ],
)
def test_a_hook_that_fails(install: Install, body: str, message: str) -> None:
    install("bad_one", GOOD[: GOOD.index("    return")] + body)
    with pytest.raises(PluginError, match=f"distribution bad_one 1.2.* {message}"):
        _ = all_plugins().leasers


def test_two_plugins_for_one_type(install: Install) -> None:
    install("good_one", GOOD)
    install("good_two", GOOD)
    with pytest.raises(PluginError, match=r'"good_two".* brings the lease type "one", as .*"good_one"'):
        _ = all_plugins().leasers


def test_two_plugins_of_one_name() -> None:
    with pytest.raises(PluginError, match="has the name of another one"):
        Plugins([Plugin("a", object()), Plugin("a", object())])


def test_hooks_are_called_once() -> None:
    calls: list[int] = []

    class Counting:
        @hookimpl
        def litefs_leasers(self) -> list[LeaserSpec]:
            calls.append(1)
            return [LeaserSpec("one", _unused)]

    plugins = Plugins([BUILTIN, Plugin("counting", Counting())])
    _ = plugins.leasers, plugins.config_sections, plugins.leasers
    assert calls == [1]


def _unused(config: object, node: object) -> Any:
    raise NotImplementedError


def test_nothing_is_loaded_at_import() -> None:
    code = "import sys, litefs.plugins, litefs.config; print([n for n in sys.modules if n.startswith('litefs_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
