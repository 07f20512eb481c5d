"""Programs that want a terminal: started on a pseudo terminal, typed to, listened to."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from pathlib import Path
from types import TracebackType

_CONTROLS = re.compile(rb"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>78]|[\x0e\x0f]")


class Terminal:
    """`see` waits for text on the screen (control sequences left out), `type` sends keys."""

    def __init__(self, arguments: list[str | Path], env: dict[str, str]) -> None:
        self.shown = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 160, 0, 0))
            kept = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8"}
            os.execvpe(str(arguments[0]), [str(one) for one in arguments], kept | env)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        os.kill(self.pid, signal.SIGTERM)
        end = time.monotonic() + 5
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                break
            self._read(0.05)
        os.close(self.fd)

    def _read(self, timeout_s: float) -> None:
        if select.select([self.fd], [], [], timeout_s)[0]:
            try:
                octets = os.read(self.fd, 65536)
            except OSError:  # the program has ended
                time.sleep(timeout_s)
                return
            if b"\x1b[6n" in octets:  # where is the cursor?
                os.write(self.fd, b"\x1b[1;1R")
            self.shown += octets

    def see(self, text: str, timeout_s: float = 30) -> None:
        """Waits for a regular expression in what was shown since the last `see`."""
        wanted = re.compile(text.encode())
        end = time.monotonic() + timeout_s
        while True:
            plain = _CONTROLS.sub(b"", self.shown)
            if wanted.search(plain) is not None:
                self.shown = b""
                return
            assert time.monotonic() < end, (
                f"{text!r} is not shown:\n{plain[-3000:].decode(errors='replace')}"
            )
            self._read(0.2)

    def type(self, keys: str) -> None:
        for key in keys:
            os.write(self.fd, key.encode())
            time.sleep(0.02)
