# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests: opens a page, evaluates scripts, takes screenshots.

Speaks the DevTools protocol over `websockets`, which viser brings anyway, instead of adding a
browser driver to what the tests need.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

FLAGS = (
    "--headless=new",
    # Chromium's sandbox does not work as root in a container; only our own page is opened.
    "--no-sandbox",
    # WebGL without a graphics card.
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    # Nothing but our own page: no updates, no look-ups of its maker's hosts.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str:
    """Path of an installed Chromium; skips the calling test where there is none."""
    for name in NAMES:
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on this machine (Debian: apt install chromium), so no live view")


class Browser:
    """One page in one headless browser; a context manager that cleans up after itself."""

    def __init__(self, url: str, size: tuple[int, int] = (960, 640)) -> None:
        self._url, self._size = url, size
        self._number = 0

    def __enter__(self) -> Browser:
        program = find_chromium()
        self._folder = tempfile.mkdtemp(prefix="key2mesh-browser-")
        environment = {k: v for k, v in os.environ.items() if k != "LD_LIBRARY_PATH"}
        width, height = self._size
        self._process = subprocess.Popen(
            [
                program,
                *FLAGS,
                f"--user-data-dir={self._folder}",
                f"--window-size={width},{height}",
                self._url,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment,
        )
        try:
            self._socket = connect(self._page_address(), max_size=None, open_timeout=20)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._end()

    def _end(self) -> None:
        # The session that was started here, and with it the browser's own children.
        os.killpg(self._process.pid, 9)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _page_address(self) -> str:
        note = Path(self._folder) / "DevToolsActivePort"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"Chromium ended at once (status {self._process.returncode})")
            if note.exists() and note.read_text().strip():
                port = note.read_text().split()[0]
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
                    pages = [p for p in json.load(answer) if p["type"] == "page"]
                if pages:
                    return pages[0]["webSocketDebuggerUrl"]
            time.sleep(0.1)
        raise TimeoutError("Chromium offered no page within 60 s")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    def drawing(self) -> NDArray[np.uint8]:
        """(height, width, 3) the page's canvas alone, without panels and notices over it."""
        self.evaluate(
            """(() => {
                const style = document.createElement("style");
                style.id = "only-the-canvas";
                style.textContent = "* { visibility: hidden !important }"
                    + "canvas { visibility: visible !important }";
                document.head.append(style);
            })()"""
        )
        try:
            return self.picture()
        finally:
            self.evaluate('document.getElementById("only-the-canvas").remove()')

    def picture(self) -> NDArray[np.uint8]:
        """(height, width, 3) a screenshot of the page."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
