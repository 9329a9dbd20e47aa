"""Chromium, driven by Playwright; what its pages do is watched."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    expect,
    sync_playwright,
)

from tests.harness.house import House

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE = 30_000  # milliseconds, on a busy machine
# What the page does by itself when it gets an error that a test asks for.
_OF_A_STATUS = "Failed to load resource: the server responded with a status of"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium of this system, without a window; skips the test where there is none.

    Its shell for that, where it is installed, takes half the time.
    """
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium is installed")
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Windows:
    """Opens pages of a house's dashboard, each in a profile of its own."""

    browser: Browser
    house: House
    _contexts: list[BrowserContext] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.house.server.port}"

    def open(self, path: str = "", name: str = "", *, clock: bool = False, **options: Any) -> Page:
        """A page, of who is logged in. With `clock` its timers run when a test says so."""
        context = self.browser.new_context(base_url=self.origin, **options)
        context.set_default_timeout(_PATIENCE)
        self._contexts.append(context)
        if name:
            cookies = self.house.browser(name).cookies
            token = cookies["jobengine_session"]
            context.add_cookies([{"name": "jobengine_session", "value": token, "url": self.origin}])
        page = context.new_page()
        self._watch(page)
        if clock:
            page.clock.install()
        if path:
            page.goto(path)
        return page

    def _watch(self, page: Page) -> None:
        def console(message: ConsoleMessage) -> None:
            if message.type == "error" and not message.text.startswith(_OF_A_STATUS):
                self.problems.append(message.text)

        def dialog(shown: Dialog) -> None:
            self.problems.append(f"a dialog: {shown.message}")
            shown.dismiss()

        page.on("console", console)
        page.on("dialog", dialog)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._asked(request.url))

    def _asked(self, url: str) -> None:
        if not url.startswith(self.origin + "/"):
            self.problems.append(f"a request to {url}")

    def close(self) -> None:
        """Closes them; fails where one complained, or asked anything of another server."""
        for context in self._contexts:
            context.close()
        assert self.problems == []
