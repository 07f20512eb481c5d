"""A Mozilla program driven from outside: the Marionette protocol, and a screen to show it on.

Length-prefixed JSON over a loopback socket: `[0, id, command, parameters]` there, `[1, id, error,
result]` back. Scripts run with the program's own rights.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any


class ScriptFailed(Exception):
    """The program says that the script threw."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Screen:
    """An X server that shows nothing."""

    def __enter__(self) -> Screen:
        read, write = os.pipe()
        self.process = subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
            pass_fds=[write],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(write)
        with os.fdopen(read) as told:
            self.display = f":{told.readline().strip()}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.process.terminate()
        self.process.wait(10)


class Thunderbird:
    """One Thunderbird with a profile of its own. `script` runs JavaScript in it."""

    def __init__(self, display: str, preferences: dict[str, object]) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="thunderbird-"))
        profile = self.home / "profile"
        profile.mkdir()
        port = free_port()
        given = {
            "marionette.port": port,
            "app.update.enabled": False,
            "mail.provider.enabled": False,
            "mail.rights.version": 1,
            "mail.shell.checkDefaultClient": False,
            "mail.spotlight.firstRunDone": True,
            "mailnews.start_page.enabled": False,
            "datareporting.policy.dataSubmissionEnabled": False,
            "toolkit.telemetry.enabled": False,
            "extensions.autoDisableScopes": 15,
            "network.captive-portal-service.enabled": False,
            "network.connectivity-service.enabled": False,
        } | preferences
        lines = [
            f"user_pref({json.dumps(key)}, {json.dumps(value)});" for key, value in given.items()
        ]
        (profile / "user.js").write_text("\n".join(lines) + "\n")
        self.log = (self.home / "log").open("wb")
        self.process = subprocess.Popen(
            ["thunderbird", "--marionette", "--remote-allow-system-access", "--no-remote"]
            + ["--profile", str(profile)],
            env={
                "PATH": os.environ["PATH"], "HOME": str(self.home), "DISPLAY": display,
                "LC_ALL": "C.UTF-8", "MOZ_CRASHREPORTER_DISABLE": "1", "GDK_BACKEND": "x11",
            },
            stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self.count = 0
        self.socket = self._connect(port)
        self._read()
        self.command("WebDriver:NewSession", {})
        self.command("Marionette:SetContext", {"value": "chrome"})

    def _connect(self, port: int) -> socket.socket:
        end = time.monotonic() + 60
        while True:
            try:
                return socket.create_connection(("127.0.0.1", port), timeout=90)
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise AssertionError((self.home / "log").read_text(errors="replace")) from None
                time.sleep(0.2)

    def _read(self) -> Any:
        head = b""
        while not head.endswith(b":"):
            octet = self.socket.recv(1)
            assert octet, "Thunderbird has gone"
            head += octet
        left = int(head[:-1])
        octets = b""
        while len(octets) < left:
            octets += self.socket.recv(left - len(octets))
        return json.loads(octets)

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """Raises: ScriptFailed."""
        self.count += 1
        text = json.dumps([0, self.count, name, parameters]).encode()
        self.socket.sendall(b"%d:%b" % (len(text), text))
        _, _, error, result = self._read()
        if error is not None:
            raise ScriptFailed(f"{error.get('message')}\n{error.get('stacktrace')}")
        return result

    def script(self, text: str, *arguments: object, timeout_s: float = 60) -> Any:
        """`text` is the body of an async function; what it returns must be JSON."""
        self.command("WebDriver:SetTimeouts", {"script": int(timeout_s * 1000)})
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...args) => {{ {text} }})(...arguments)"
            ".then(value => done({value}), error => done({error: String(error) + error.stack}));"
        )
        found = self.command(
            "WebDriver:ExecuteAsyncScript",
            {"script": wrapped, "args": list(arguments), "newSandbox": False, "sandbox": "system"},
        )["value"]
        if "error" in found:
            raise ScriptFailed(found["error"])
        return found.get("value")

    def close(self) -> None:
        self.socket.close()
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)
