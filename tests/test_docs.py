"""What the documentation says about this repository is there: links, keys, and nothing of anyone's own machine."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from litefs.config import loads
from litefs.config.merged import merged_schema
from litefs.config.schema import Schema
from litefs.plugins import BUILTIN, Plugins, load
from litefs.supervisor import from_entry
from tests.support.doc_blocks import FENCED, commands, complaint, configurations
from tests.support.reference import assert_current, command_help, kernel_keys, plugin_keys

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [page for pattern in ("*.md", "docs/*.md", "plugins/*/*.md", "examples/**/*.md") for page in ROOT.glob(pattern)]
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

# Text that only makes sense where it was written: home directories, addresses of package indexes.
MACHINE = [
    re.compile(r"(?<![\w.$*{}-])/(?:work|root|home/\w+|Users/\w+)/[\w.]"),
    re.compile(r"https?://[\w.:-]+/(?:\w+/)*simple\b|(?:index-url|trusted-host)[= ]+[\w\"']+[.:/]", re.IGNORECASE),
]


def as_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """A page without its code blocks, whose brackets are no links."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Names of a page's headings, as GitHub makes them."""
    return {re.sub(r"[^\w -]", "", text.lower()).strip().replace(" ", "-") for text in HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=as_id)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        path = page.parent / target if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert not broken


def test_the_index_links_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / link).resolve() for link in LINK.findall(prose(index))} | {index}
    assert not [as_id(page) for page in ROOT.glob("docs/*.md") if page.resolve() not in linked]
    assert "(docs/index.md)" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"], ids=as_id)
def test_named_parts_of_the_repository_exist(page: Path) -> None:
    named = re.findall(r"`((?:litefs|tests|bench|schema|scripts|plugins|examples)/[\w./-]*)`", page.read_text())
    assert named
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_room_has_its_line() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = [path.parent.name for path in (ROOT / "litefs").glob("*/__init__.py")]
    assert not [room for room in rooms if f"`litefs/{room}`" not in text]


def keys(schema: Schema, node: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, sub in schema.properties(node).items():
        if schema.types(sub) == {"object"}:  # a plugin's section has no keys here
            yield from keys(schema, sub, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_key_is_documented() -> None:
    """Those of the kernel; plugins document theirs."""
    schema = Schema(merged_schema(Plugins([BUILTIN])))
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert not [key for key in keys(schema, schema.root) if f"`{key}`" not in text]


def test_every_command_is_documented() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert not [name for name in load().commands if not re.search(rf"litefs {re.escape(name)}\b|`{name}`", text)]


def test_nothing_names_the_machine_it_was_written_on() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {match.group()}" for pattern in MACHINE for match in pattern.finditer(text)]
    assert not found


@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("configuration.md", kernel_keys),
        ("configuration-plugins.md", plugin_keys),
        ("command-line.md", command_help),
    ],
)
def test_references_are_up_to_date(page: str, made: Callable[[], str]) -> None:
    """Run with UPDATE_DOCS=1 to rewrite them."""
    assert_current(ROOT / "docs" / page, made())


# Of plugins that are not installed where the tests run; the tests of plugins check them.
FOREIGN = {ROOT / "examples/lease_file/README.md"}


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FOREIGN], ids=as_id)
def test_configurations_pass_the_check(page: Path) -> None:
    for content in configurations(page):
        lease = {"type": "static", **(content.get("lease") or {})}
        for name in ("http", "backup"):
            (content.get(name) or {}).pop("auth-token-file", None)  # it would be read
        found = loads(yaml.safe_dump({**content, "lease": lease}), plugins=load(), environment={"HOSTNAME": "node1"})
        for entry in found.exec:
            from_entry(entry)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FOREIGN], ids=as_id)
def test_commands_and_flags_exist(page: Path) -> None:
    found = [text for line in commands(page.read_text()) if (text := complaint(line))]
    assert not [text for text in found if "litefs lease-file" not in text]  # of the example


def parsed(language: str, text: str) -> object:
    """What a block means to who reads its language; raises what that finds wrong."""
    if language == "python":
        return ast.parse(text)
    if language == "toml":
        return tomllib.loads(text)
    if language in ("json", "yaml"):
        return list(yaml.safe_load_all(text))  # JSON is YAML
    if language == "sh":
        return subprocess.run(["sh", "-n"], input=text, check=True, capture_output=True, text=True)
    return None


@pytest.mark.parametrize("page", PAGES, ids=as_id)
def test_blocks_are_of_their_language(page: Path) -> None:
    for language, text in FENCED.findall(page.read_text()):
        parsed(language, text)


def test_the_check_of_commands_finds_what_is_wrong() -> None:
    blocks = "```sh\nlitefs stats\n```\n\n    sudo litefs demote -to b  # x\n\n"
    text = f"{blocks}Use `litefs config chek` or `litefs\nstatus -json`."
    wrong = [complaint(line) for line in commands(text)]
    assert [bool(each) for each in wrong] == [True, True, True, False]


def test_messages_to_be_troubled_by_exist() -> None:
    """Those of litefs itself; what SQLite and Linux say comes first on the page."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    ours = page[page.index("## At the start") :]
    source = "".join(path.read_text() for folder in ("litefs", "plugins") for path in (ROOT / folder).rglob("*.py"))
    messages = re.findall(r"^### `(.+)`$", ours, re.MULTILINE)
    assert messages
    assert not [message for message in messages if message not in source]
