"""A real browser, driven by the DevTools protocol over a pipe, so that no port is opened and no library is needed."""

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find_browser():
    """The path of a browser; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class Browser:
    """One browser without a window."""

    def __init__(self, profile: Path):
        to_read, to_write = os.pipe(), os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        flags += ["--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "about:blank"]
        script = f'exec "$@" 3<&{to_read[0]} 4>&{to_write[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", find_browser(), *flags],
            pass_fds=(to_read[0], to_write[1]),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read[0])
        os.close(to_write[1])
        self._out, self._in = to_read[1], to_write[0]
        self._rest, self._number = b"", 0
        self.events: list[dict] = []

    def close(self):
        with contextlib.suppress(OSError):
            self.call("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        os.close(self._out)
        os.close(self._in)

    def call(self, method: str, session: str | None = None, **params):
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        data = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self, patience: float = 60):
        while b"\0" not in self._rest:
            assert select.select([self._in], [], [], patience)[0], f"the browser has said nothing for {patience} s"
            more = os.read(self._in, 1 << 16)
            assert more, "the browser has gone"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path | str, *, width: int = 1200, height: int = 1000, dark: bool = False, touch: bool = False):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session, page, width, height, dark, touch)
        tab.target = target
        return tab


class Tab:
    """A page that was opened."""

    def __init__(
        self, browser: Browser, session: str, page: Path | str, width: int, height: int, dark: bool, touch: bool
    ):
        self.browser, self.session = browser, session
        self.address = page if isinstance(page, str) else page.absolute().as_uri()
        self.own = page.split("?")[0] if isinstance(page, str) else self.address  # what it may ask for begins so
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=self.address)
        self.wait("document.readyState === 'complete'")
        self.settle()

    def call(self, method: str, **params):
        return self.browser.call(method, self.session, **params)

    def close(self):
        self.browser.call("Target.closeTarget", targetId=self.target)

    def js(self, code: str):
        """The value of an expression."""
        told = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def wait(self, condition: str, seconds: float = 30):
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise AssertionError(f"waited {seconds} s for {condition}: {self.js('document.body.innerText')[:2000]}")
            time.sleep(0.02)

    def settle(self):
        """Waits until what was asked for is drawn."""
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def mouse(self, kind: str, x: float, y: float):
        pressed = {"button": "left", "buttons": 1, "clickCount": 1} if kind != "mouseMoved" or self._held else {}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    _held = False

    def drag(self, x: float, y0: float, y1: float):
        self.mouse("mousePressed", x, y0)
        self._held = True
        for step in range(1, 5):
            self.mouse("mouseMoved", x, y0 + (y1 - y0) * step / 4)
        self.mouse("mouseReleased", x, y1)
        self._held = False
        self.settle()

    def tap(self, x: float, y: float):
        """A finger, down and up."""
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle()

    def press(self, key: str, code: int, shift: bool = False):
        for kind in ("keyDown", "keyUp"):
            extra = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, modifiers=8 * shift, **extra
            )
        self.settle()

    def box(self, selector: str, index: int = 0):
        """Where an element lies in the window, after it was scrolled there: left, top, width, height."""
        found = f"document.querySelectorAll({json.dumps(selector)})[{index}]"
        self.js(f"{found}.scrollIntoView({{block: 'center'}})")
        self.settle()
        return self.js(f"(b => [b.x, b.y, b.width, b.height])({found}.getBoundingClientRect())")

    def texts(self, selector: str) -> list[str]:
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)")

    def column(self, index: int) -> list[str]:
        """The cells of a column of the table."""
        return self.texts(f"tbody tr td:nth-child({index + 1})")

    def complaints(self) -> list[str]:
        """What went wrong: errors, messages on the console, violations of the policy, dialogs, requests."""
        found = []
        for event in self.browser.events:
            method, params = event.get("method"), event.get("params", {})
            if event.get("sessionId") != self.session:
                continue
            if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Page.javascriptDialogOpening"):
                found.append(json.dumps(params)[:500])
            elif method == "Log.entryAdded":
                found.append(params["entry"]["text"])
            elif method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if url != "about:blank" and not url.startswith((self.own, "data:", "blob:")):
                    found.append(f"request of {url}")
        return found

    def screenshot(self, file: Path, *, whole: bool = True):
        size = self.call("Page.getLayoutMetrics")["cssContentSize" if whole else "cssLayoutViewport"]
        size = {
            "width": size.get("width", size.get("clientWidth")),
            "height": size.get("height", size.get("clientHeight")),
        }
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000), "scale": 1}
        told = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole, clip=clip)
        file.write_bytes(base64.b64decode(told["data"]))
