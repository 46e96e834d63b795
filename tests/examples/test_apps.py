"""The example applications, each on two nodes: writes from anywhere, a worker that moves, a migration that ran once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litefs.mount.kernel import mounted_type
from tests.support.lease_file import installed
from tests.support.programs import find_tool
from tests.support.waiting import wait_for

from .site import NODES, Browser, Site

SWITCHES = {"starlette": 1, "flask": 2, "node": 1}  # of the primary; --torture-rounds says otherwise


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    """Starts an example, with the lease plugin of the examples installed."""
    environment = {"PYTHONPATH": str(installed(tmp_path))}
    sites: list[Site] = []

    def start(example: str) -> Site:
        folder = tmp_path / example
        folder.mkdir()
        sites.append(Site(example, folder, environment))
        sites[-1].wait_ready()
        return sites[-1]

    yield start
    for site in sites:
        site.destroy()


def diary(browser: Browser, url: str, length: int) -> list[tuple[str, str]]:
    """Who did what, once it is that long."""
    lines = wait_for(lambda: found if len(found := browser.json(url)) >= length else [], "end of the diary")
    return [(line["node"], line["what"]) for line in lines]


@pytest.mark.parametrize("example", SWITCHES)
def test_an_application_on_two_nodes(
    example: str, run: Callable[[str], Site], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    if example == "node":
        find_tool("node", "the example that needs it was not run")
    site, browser = run(example), Browser()
    primary = site.primary()
    expected = [(primary, "migrated"), (primary, "worker began")]
    turns = pytestconfig.getoption("--torture-rounds") or SWITCHES[example]
    for turn in range(turns + 1):
        replica = next(node for node in NODES if node != primary)
        text = f"note {turn} <from {replica}>"
        # A browser that knows the replica only: it sends the form there, is sent to the page, and finds its note.
        page = browser.post(f"{site.web[replica]}/notes", text=text)
        assert f"note {turn} &" in page
        assert f"Shown by node {replica}." in page

        def counted(number: int = turn, node: str = replica) -> bool:
            return bool(browser.json(f"{site.web[node]}/notes")[number]["words"])

        wait_for(counted, f"count of words; {site.log()}")
        note = browser.json(f"{site.web[replica]}/notes")[turn]
        assert note == {"id": turn + 1, "text": text, "node": primary, "words": 4, "counted_by": primary}
        if turn < turns:
            expected += [(primary, "worker ended"), (primary := site.switch(), "worker began")]
    # Never two of them, none without its end, and the migration was the first thing and did not come again.
    for node in NODES:
        assert diary(browser, f"{site.web[node]}/diary", len(expected)) == expected
    assert site.stop() == 0, site.log()
    assert not [node for node in NODES if mounted_type(tmp_path / example / node / "mnt")]
    assert "level=ERROR" not in site.log()
    assert "Traceback" not in site.log()
