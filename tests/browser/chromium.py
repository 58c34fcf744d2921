# Copyright (c) 2026 falcotune contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A headless Chromium, driven by the DevTools protocol over a pipe: JSON messages that end with a zero byte, on file
descriptors 3 (to it) and 4 (from it). Standard library only; no port, no driver program, no version that must match.

Clicks and keys are given as a mouse and a keyboard would, so what can't be reached by them can't be tested by accident.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections import deque
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
    # Whatever the page or the browser itself might ask for, there is no network to ask.
    "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)
DEADLINE = 60.0
KEYS = {
    "Enter": (13, "\r"), "Tab": (9, ""), "ArrowDown": (40, ""), "ArrowUp": (38, ""), " ": (32, " "),
}


def find() -> str | None:
    """The Chromium of CHROMIUM or of PATH."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    def __init__(self) -> None:
        binary = find()
        if not binary:
            raise FileNotFoundError("no Chromium was found")
        self.folder = tempfile.TemporaryDirectory(prefix="falcotune-chromium-", ignore_cleanup_errors=True)
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()
        # Out of the way of 3 and 4 first.
        high = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 20) for number in (theirs_in, theirs_out)]
        self.log = Path(self.folder.name) / "chromium.log"
        self.pid = os.posix_spawn(
            binary, [binary, *FLAGS, f"--user-data-dir={self.folder.name}/profile", "about:blank"],
            {**os.environ, "HOME": self.folder.name},
            file_actions=[(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4),
                          (os.POSIX_SPAWN_OPEN, 1, str(self.log), os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600),
                          (os.POSIX_SPAWN_DUP2, 1, 2)], setpgroup=0)
        for number in (*high, theirs_in, theirs_out):
            os.close(number)
        self.number = 0
        self.rest = b""
        self.events: deque[dict] = deque()

    def send(self, method: str, session: str | None = None, /, **params) -> dict:
        """The answer to a command; events that come before it are kept."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = memoryview(json.dumps(message).encode() + b"\0")
        while data:
            data = data[os.write(self.to, data):]
        deadline = time.monotonic() + DEADLINE
        while True:
            answer = self._read(deadline)
            if answer is None:
                raise TimeoutError(f"Chromium didn't answer {method} in {DEADLINE:g} s")
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error'].get('message')}")
                return answer["result"]
            self.events.append(answer)

    def poll(self) -> None:
        """Take in what has come."""
        while (event := self._read(0)) is not None:
            self.events.append(event)

    def _read(self, deadline: float) -> dict | None:
        while b"\0" not in self.rest:
            if not select.select([self.back], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return None
            data = os.read(self.back, 1 << 20)
            if not data:
                raise RuntimeError(f"Chromium ended: {self.log.read_text(errors='replace')[-2000:]}")
            self.rest += data
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def page(self) -> Page:
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        return Page(self, target, self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.send("Browser.close")
        deadline = time.monotonic() + 10
        while os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            time.sleep(0.05)
        os.close(self.to)
        os.close(self.back)
        self.folder.cleanup()


class Page:
    """requests: addresses asked for; problems: errors on the console, exceptions, what the policy refused; dialogs: their texts."""

    def __init__(self, browser: Chromium, target: str, session: str) -> None:
        self.browser, self.target, self.session = browser, target, session
        self.requests: list[str] = []
        self.problems: list[str] = []
        self.dialogs: list[str] = []
        self.loaded = 0
        # For the tests of a test: what is refused is said on the console.
        self.may_complain = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, /, **params) -> dict:
        answer = self.browser.send(method, self.session, **params)
        self._sort()
        return answer

    def _sort(self) -> None:
        events = self.browser.events
        for _ in range(len(events)):
            event = events.popleft()
            if event.get("sessionId") != self.session:
                events.append(event)
                continue
            params = event.get("params", {})
            match event["method"]:
                case "Network.requestWillBeSent":
                    self.requests.append(params["request"]["url"])
                case "Runtime.exceptionThrown":
                    details = params["exceptionDetails"]
                    self.problems.append((details.get("exception") or {}).get("description") or details["text"])
                case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                    self.problems.append(str([item.get("value") for item in params["args"]]))
                case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                    self.problems.append(params["entry"]["text"])
                case "Page.javascriptDialogOpening":
                    self.dialogs.append(params["message"])
                    self.browser.send("Page.handleJavaScriptDialog", self.session, accept=False)
                case "Page.loadEventFired":
                    self.loaded += 1

    def size(self, width: int, height: int = 900, dark: bool = False, mobile: bool = False, scale: float = 1) -> None:
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile)
        self.media(dark)

    def media(self, dark: bool = False, kind: str = "") -> None:
        self.send("Emulation.setEmulatedMedia", media=kind,
                  features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def open(self, url: str) -> None:
        """Load an address anew, even where only its fragment differs from the present one."""
        self.send("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        before = self.loaded
        self.send("Page.navigate", url=url)
        deadline = time.monotonic() + DEADLINE
        while self.loaded == before:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{url} didn't load in {DEADLINE:g} s")
            time.sleep(0.01)
            self.browser.poll()
            self._sort()

    def js(self, expression: str):
        """The value of an expression in the page; promises are waited for."""
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError((details.get("exception") or {}).get("description") or details["text"])
        return answer["result"].get("value")

    def wait(self, expression: str):
        """The first true value of an expression."""
        deadline = time.monotonic() + DEADLINE
        while not (value := self.js(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not true within {DEADLINE:g} s: {expression}")
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        return self.js(f"document.querySelector({json.dumps(selector)}).innerText")

    def texts(self, selector: str) -> list[str]:
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((node) => node.innerText)")

    def click(self, selector: str) -> None:
        """The mouse, in the middle of what the selector finds; what lies on top of it gets the click."""
        self.js(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        x, y = self.js(f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                       " return [box.x + box.width / 2, box.y + box.height / 2]; })()")
        self.mouse(x, y)

    def mouse(self, x: float, y: float, press: bool = True) -> None:
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in ("mousePressed", "mouseReleased") if press else ():
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def key(self, name: str, shift: bool = False) -> None:
        code, text = KEYS[name]
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, modifiers=8 if shift else 0,
                      **extra)

    def type(self, text: str) -> None:
        self.send("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """An option of a select: a headless browser draws no list to click in."""
        self.js(f"(() => {{ const field = document.querySelector({json.dumps(selector)}); field.value = {json.dumps(value)};"
                " field.dispatchEvent(new Event('change', {bubbles: true})); })()")

    def back(self) -> None:
        history = self.send("Page.getNavigationHistory")
        self.send("Page.navigateToHistoryEntry", entryId=history["entries"][history["currentIndex"] - 1]["id"])

    def pixels(self, selector: str, script: str):
        """What a script makes of a canvas: `data` is its RGBA, of a copy, since reading it back would change how it is drawn."""
        return self.js(f"""(() => {{
            const canvas = document.querySelector({json.dumps(selector)}), box = canvas.getBoundingClientRect();
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {{willReadFrequently: true}});
            copy.drawImage(canvas, 0, 0);
            const {{data}} = copy.getImageData(0, 0, canvas.width, canvas.height);
            {script} }})()""")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        data = self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(data["data"]))

    def _clip(self, whole: bool) -> dict:
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self) -> bytes:
        return base64.b64decode(self.send("Page.printToPDF", printBackground=True)["data"])

    def close(self) -> None:
        self.browser.send("Target.closeTarget", targetId=self.target)
