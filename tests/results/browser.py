"""The system's Chromium, headless, driven by playwright: keys, scripts and screenshots."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser as Chromium
    from playwright.sync_api import Page

_FOUND = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM = _FOUND if find_spec("playwright") is not None else None


class Browser:
    """One page at a time of a running Chromium."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._page: Page | None = None
        self.messages: list[str] = []  # what the page's console and its errors said

    @property
    def page(self) -> Page:
        assert self._page is not None, "nothing is open"
        return self._page

    def open(
        self,
        path: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        scripts: bool = True,
    ) -> None:
        """Open a local file in a window of this size and wait until it is loaded."""
        if self._page is not None:
            self._page.context.close()
        context = self._chromium.new_context(
            viewport={"width": width, "height": height},
            is_mobile=width < 500,
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
        )
        self._page = context.new_page()
        self._page.on("console", lambda message: self.messages.append(message.text))
        self._page.on("pageerror", lambda error: self.messages.append(str(error)))
        self._page.on("requestfailed", lambda request: self.messages.append(request.url))
        self._page.goto(path.resolve().as_uri(), wait_until="load")

    def reload(self) -> None:
        """Load the page again, with its address as it now is."""
        self.page.reload(wait_until="load")

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self.page.evaluate(expression)

    def until(self, expression: str, seconds: float = 5) -> bool:
        """Whether a JavaScript condition comes true in time: keys take effect when they do."""
        end = time.monotonic() + seconds
        while not self.run(expression):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def press(self, *keys: str) -> None:
        """Press and release keys such as Tab, ArrowDown, Enter, as a person would."""
        for key in keys:
            self.page.keyboard.press("Space" if key == " " else key)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what is seen, or the whole page, as a PNG."""
        self.page.screenshot(path=path, full_page=whole)

    def print(self, path: Path) -> None:
        """Save the page as it would be printed, as a PDF."""
        self.page.pdf(path=path)


@contextmanager
def start_browser() -> Iterator[Browser]:
    """Run Chromium with a profile of its own, which goes with it; nothing is downloaded."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--disable-quic"]
        )
        try:
            yield Browser(chromium)
        finally:
            chromium.close()
