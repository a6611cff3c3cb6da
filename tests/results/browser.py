"""A headless Chromium, driven over its debugging pipe: keys, scripts and screenshots."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)


class Browser:
    """One page of a running Chromium."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._out, self._in = to_browser, from_browser
        self._buffer, self._next_id, self._session, self._loads = b"", 0, "", 0
        self.messages: list[str] = []  # what the page's console and its errors said
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._call(f"{domain}.enable")

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
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._call("Page.navigate", url="about:blank")
        self._wait_for_load()
        self._call("Page.navigate", url=path.resolve().as_uri())
        self._wait_for_load()

    def reload(self) -> None:
        """Load the page again, with its address as it now is."""
        self._call("Page.reload")
        self._wait_for_load()

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self._call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"])[:500])
        return answer["result"].get("value")

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
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowUp": 38, "ArrowDown": 40}
        for key in keys:
            known = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
            text = {"Enter": "\r", " ": " "}.get(key)
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            self._call("Input.dispatchKeyEvent", **down, **known)
            self._call("Input.dispatchKeyEvent", type="keyUp", **known)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what is seen, or the whole page, as a PNG."""
        image = self._call(
            "Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)
        )
        path.write_bytes(base64.b64decode(image["data"]))

    def print(self, path: Path) -> None:
        """Save the page as it would be printed, as a PDF."""
        path.write_bytes(base64.b64decode(self._call("Page.printToPDF")["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "x": 0, "y": 0, "scale": 1}}

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._next_id += 1
        message: dict[str, Any] = {"id": self._next_id, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            self._handle(answer)
            if answer.get("id") == self._next_id:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _wait_for_load(self) -> None:
        while self._loads == 0:
            self._handle(self._receive())
        self._loads = 0

    def _handle(self, answer: dict[str, Any]) -> None:
        if answer.get("method") == "Page.loadEventFired":
            self._loads += 1
        if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.messages.append(json.dumps(answer["params"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._in, 1 << 20)
            if not part:
                raise RuntimeError("the browser has gone")
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)


@contextmanager
def start_browser(profile: Path) -> Iterator[Browser]:
    """Run Chromium with a fresh profile; it reads commands from descriptor 3, answers on 4."""
    read_end, to_browser = os.pipe()
    from_browser, write_end = os.pipe()
    flags = " ".join(_FLAGS)
    command = f'exec "$0" {flags} --user-data-dir="$1" 3<&{read_end} 4>&{write_end}'
    process = subprocess.Popen(
        ["bash", "-c", command, str(CHROMIUM), str(profile)],
        pass_fds=(read_end, write_end),
        env={**os.environ, "TMPDIR": str(profile)},  # what it leaves behind goes with the profile
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_end)
    os.close(write_end)
    try:
        yield Browser(to_browser, from_browser)
    finally:
        process.terminate()
        process.wait(timeout=20)
        os.close(to_browser)
        os.close(from_browser)
