"""Imports go downward only, and what is needed before the mount is up imports nothing heavy."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "litefs"

# From the bottom up. A layer may import itself and what is below it; parts of one line do not know each other.
LAYERS = [
    {"errors", "jsontext"},
    {"ltx", "sqlite"},
    {"live"},
    {"store"},
    {"replication"},
    {"supervisor", "cluster", "http", "mount"},
    {"backup"},
    {"node"},
    {"cli"},
]
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Configuration and plugins are beside the layers: known to the upper ones, knowing no part of the machinery.
ASIDE = {"config", "plugins", "hookspecs", "extensions", "leases", "assembly", "builtin", "catalog", "kernel_commands"}
TOOLS = {"logging", "systemd", "lifecycle", "datalock"}


def part_of(module):
    """``litefs.ltx.header`` -> ``ltx``; None for the package itself and for others."""
    name, _, rest = module.partition(".")
    return rest.partition(".")[0] or None if name == "litefs" else None


def imports(path):
    """The modules a file imports at run time, wherever in it; what only type checkers see does not count."""
    tree = ast.parse(path.read_text())
    unseen = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in unseen:
            continue
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "litefs":
                yield from (f"litefs.{name.name}" for name in node.names)
            else:
                yield node.module


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if name not in ("__init__", "testing", "templates", "schema"):
            yield pytest.param(name, path, id=str(path.relative_to(PACKAGE)))


@pytest.mark.parametrize(("part", "path"), list(modules()))
def test_imports_go_downward(part, path):
    assert part in LEVEL or part in ASIDE | TOOLS, f"{part} has no place in the layers: give it one"
    for imported in filter(None, map(part_of, imports(path))):
        if imported in (part, "__version__"):
            continue
        if part in LEVEL and imported in LEVEL:
            assert LEVEL[imported] < LEVEL[part], f"{path.name} imports litefs.{imported}"
        elif part in ASIDE:
            # Plugins may name commands and the version, but no machinery.
            assert imported in ASIDE | {"errors", "config"}, f"{path.name} imports litefs.{imported}"
        elif part in TOOLS:
            assert imported in {"errors"} | TOOLS, f"{path.name} imports litefs.{imported}"


HEAVY = {"numpy", "httpx", "hypercorn", "starlette", "jsonschema", "rich", "h2", "prometheus_client", "asyncio"}


@pytest.mark.parametrize(
    "module", ["litefs.cli", "litefs.supervisor", "litefs.lifecycle", "litefs.config", "litefs.plugins"]
)
def test_nothing_heavy_is_imported_before_the_mount(module):
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not HEAVY & set(done.stdout.split())
