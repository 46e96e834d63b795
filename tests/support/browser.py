"""A real browser without a window: Chromium, steered by ChromeDriver over the WebDriver protocol.

`scripts/browser` finds or installs both. Where there is none, tests skip with the reason, except in CI.
"""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from .programs import find_program
from .waiting import wait_for

LIMIT = 60.0
"""Seconds for one command: a page that is loaded on a busy machine."""

FLAGS = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root with one
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    # It asks nobody but the page's server.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1000,1200",
)

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""Under this key WebDriver names an element."""


class BrowserError(AssertionError):
    """The browser cannot do what it was told: no such element, or one that cannot be clicked."""


@dataclass(frozen=True)
class Element:
    """An element of the page that is shown."""

    browser: Browser
    id: str

    def click(self) -> None:
        """Click it."""
        self._do("click")

    def follow(self) -> None:
        """Click it, and wait until another page is there."""
        before = self.browser.find("html")
        self._do("click")
        wait_for(lambda: self.browser.find_all("html") not in ([], [before]), "page behind the click", LIMIT)

    def type(self, text: str) -> None:
        """Press keys in it."""
        self._do("value", text=text)

    def clear(self) -> None:
        """Empty the field."""
        self._do("clear")

    def link(self, text: str) -> Element:
        """The link in it with that text. Raises BrowserError."""
        found = self.browser.command("POST", f"element/{self.id}/element", using="link text", value=text)
        return Element(self.browser, found[_ELEMENT])

    @property
    def text(self) -> str:
        """What a person reads there."""
        return str(self.browser.command("GET", f"element/{self.id}/text"))

    def attribute(self, name: str) -> str | None:
        """An attribute; None where it has none of that name."""
        value = self.browser.command("GET", f"element/{self.id}/attribute/{name}")
        return None if value is None else str(value)

    def _do(self, what: str, **parameters: Any) -> None:
        self.browser.command("POST", f"element/{self.id}/{what}", **parameters)


class Browser:
    """One window, with a profile of its own.

    Attributes:
        downloads: folder where it saves what it is given to save.
    """

    def __init__(self, driver: str, session: str, downloads: Path) -> None:
        self.downloads = downloads
        self._session = f"{driver}/session/{session}"
        self._http = httpx.Client(trust_env=False, timeout=LIMIT)

    def command(self, method: str, path: str, **parameters: Any) -> Any:
        """A command of WebDriver; its value. Raises BrowserError."""
        url = f"{self._session}/{path}".rstrip("/")
        return _value(self._http.request(method, url, json=parameters if method == "POST" else None))

    def cdp(self, command: str, **parameters: Any) -> Any:
        """A command of the browser's own protocol."""
        return self.command("POST", "goog/cdp/execute", cmd=command, params=parameters)

    # ----------------------------------------------------------------------------------------------------- going

    def open(self, url: str) -> None:
        """Go to a page and wait until it is loaded."""
        self.command("POST", "url", url=url)

    def reload(self) -> None:
        """Load the page again."""
        self.command("POST", "refresh")

    def back(self) -> None:
        """Go to the page before."""
        self.command("POST", "back")

    def allow_scripts(self, allowed: bool) -> None:
        """Whether the scripts of pages run from now on."""
        self.cdp("Emulation.setScriptExecutionDisabled", value=not allowed)

    def forget(self) -> None:
        """Remove all cookies of the page's server."""
        self.command("DELETE", "cookie")

    # --------------------------------------------------------------------------------------------------- looking

    @property
    def url(self) -> str:
        """Of the page."""
        return str(self.command("GET", "url"))

    @property
    def title(self) -> str:
        """Of the page."""
        return str(self.command("GET", "title"))

    @property
    def source(self) -> str:
        """The page's HTML."""
        return str(self.command("GET", "source"))

    @property
    def text(self) -> str:
        """What a person reads on the page."""
        return self.find("body").text

    def find(self, css: str) -> Element:
        """The first element that a CSS selector matches. Raises BrowserError."""
        found = self.command("POST", "element", using="css selector", value=css)
        return Element(self, found[_ELEMENT])

    def find_all(self, css: str) -> list[Element]:
        """Every element that a CSS selector matches."""
        found = self.command("POST", "elements", using="css selector", value=css)
        return [Element(self, each[_ELEMENT]) for each in found]

    def link(self, text: str) -> Element:
        """The link with that text. Raises BrowserError."""
        return Element(self, self.command("POST", "element", using="link text", value=text)[_ELEMENT])

    def cookies(self) -> list[dict[str, Any]]:
        """The cookies that the page's server has set, also those that scripts do not see."""
        found: list[dict[str, Any]] = self.command("GET", "cookie")
        return found

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page; what it returns."""
        return self.command("POST", "execute/sync", script=script, args=arguments)

    def complaints(self) -> list[str]:
        """Errors and warnings on the browser's console since the last call: of scripts, refused content, 404s."""
        found = self.command("POST", "se/log", type="browser")
        return [str(entry["message"]) for entry in found if entry["level"] in ("WARNING", "SEVERE")]

    def screenshot(self, path: Path) -> None:
        """Write a picture of the window, a PNG file."""
        path.write_bytes(base64.b64decode(self.command("GET", "screenshot")))

    def close(self) -> None:
        """End the browser."""
        with suppress(httpx.HTTPError):
            self.command("DELETE", "")
        self._http.close()


@contextmanager
def running_browser(folder: Path) -> Iterator[Browser]:
    """A browser that is gone afterwards; everything it keeps is in the folder."""
    # Chromium has a socket among its temporary files, and the path of a socket must not be long.
    place = TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
    with place as temporary, _running(folder, temporary) as browser:
        yield browser


@contextmanager
def _running(folder: Path, temporary: str) -> Iterator[Browser]:
    profile, downloads, log = folder / "profile", folder / "downloads", folder / "chromedriver.log"
    downloads.mkdir(parents=True)
    environment = {**os.environ, "HOME": str(folder), "TMPDIR": temporary}
    with open(log, "wb") as output:
        # A process group of its own: the browser's processes are in it.
        driver = subprocess.Popen(
            [find_program("browser", "chromedriver", "CHROMEDRIVER_BIN", "scripts/browser"), "--port=0"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
        )
    try:
        url = f"http://127.0.0.1:{wait_for(lambda: _port(log), f'ChromeDriver, see {log}')}"
        browser = Browser(url, _new_session(url, profile, downloads), downloads)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait(10)


def _port(log: Path) -> str:
    found = re.search(r"started successfully on port (\d+)", log.read_text(errors="replace"))
    return found[1] if found else ""


def _new_session(driver: str, profile: Path, downloads: Path) -> str:
    options = {
        "args": [*FLAGS, f"--user-data-dir={profile}"],
        "prefs": {"download.default_directory": str(downloads)},
    }
    capabilities = {
        "browserName": "chrome",
        "acceptInsecureCerts": True,
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL"},
    }
    content = {"capabilities": {"alwaysMatch": capabilities}}
    answer = httpx.post(f"{driver}/session", json=content, trust_env=False, timeout=LIMIT)
    return str(_value(answer)["sessionId"])


def _value(answer: httpx.Response) -> Any:
    value = answer.json()["value"]
    if answer.is_error:
        raise BrowserError(f"{value['error']}: {value['message'].splitlines()[0]}")
    return value
