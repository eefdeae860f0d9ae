"""A headless Chromium that is driven over a pair of pipes, without another package.

Source: https://chromedevtools.github.io/devtools-protocol
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_SECONDS = 60


class Browser:
    """One page of a headless Chromium.

    Attributes:
        hosts: addresses that the page has asked for, but those of data and blobs.
        problems: what the page has reported as errors.
    """

    def __init__(self):
        if CHROMIUM is None:
            pytest.skip("needs Chromium (the Debian package chromium)")
        self._profile = tempfile.TemporaryDirectory(prefix="tfxc-chromium-")
        (inward, self._write), (self._read, outward) = os.pipe(), os.pipe()
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            f"--user-data-dir={self._profile.name}", "--no-first-run", "--disable-dev-shm-usage",
            "--hide-scrollbars", "about:blank",
        ]  # fmt: skip
        shell = f'exec "$0" "$@" 3<&{inward} 4>&{outward}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, *command], pass_fds=(inward, outward),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(inward)
        os.close(outward)
        self.hosts, self.problems = [], []
        self._rest, self._number, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        """Ends it."""
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._profile.name, ignore_errors=True)

    def call(self, method, **parameters):
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._message()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]

    def _message(self):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], _SECONDS)
            assert ready, "Chromium does not answer"
            block = os.read(self._read, 1 << 20)
            assert block, "Chromium has ended"
            self._rest += block
        text, self._rest = self._rest.split(b"\0", 1)
        found = json.loads(text)
        self._note(found.get("method"), found.get("params", {}))
        return found

    def _note(self, method, given):
        if method == "Network.requestWillBeSent":
            url = given["request"]["url"]
            self.hosts += [] if url.startswith(("data:", "blob:")) else [url.split("/")[2]]
        elif method == "Runtime.exceptionThrown":
            self.problems.append(given["exceptionDetails"]["text"])
        elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.problems.append(given["entry"]["text"])

    def open(self, url):
        """Loads a page."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, script):
        """The value of an expression in the page."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Waits until an expression is true, and returns it."""
        end = time.monotonic() + _SECONDS
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.02)
        return value

    def type(self, text):
        """Types into the element that has the focus."""
        self.call("Input.insertText", text=text)

    def press(self, key, code=9):
        """Presses a key, e.g. ``"Tab"``, whose virtual key code is 9."""
        text = {"text": key} if len(key) == 1 else {}
        for kind, given in (("keyDown", text), ("keyUp", {})):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code, **given
            )

    def size(self, width, height, scale=1):
        """Sets the size of the window."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip

    def colours(self, scheme):
        """``"dark"`` or ``"light"``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, path):
        """Writes what is shown as PNG."""
        found = self.call("Page.captureScreenshot", format="png")
        with open(path, "wb") as stream:
            stream.write(base64.b64decode(found["data"]))
