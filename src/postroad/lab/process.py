"""A real Postroad server as a process of its own: made, started, asked, stopped, killed.

What the demo, the tests, the benchmarks and `postroad lab` drive; it knows the program only by
its command line, as an operator does.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from postroad.lab.ports import is_free

STANDARD_PORTS = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
}


class ServerFailed(Exception):
    """The program did not do what was asked; the text holds what it said."""


def free_offset(*addresses: str, tries: int = 200) -> int:
    """A port offset at which all standard ports are free on all `addresses`.

    Raises: ServerFailed when none is found.
    """
    for attempt in range(tries):
        offset = 11_000 + (os.getpid() * 37 + attempt * 1009) % 20_000
        if all(is_free(a, offset + p) for a in addresses for p in STANDARD_PORTS.values()):
            return offset
    raise ServerFailed(f"no free port offset on {addresses} in {tries} tries")


def set_option(toml: str, section: str, key: str, value: str) -> str:
    """The TOML text with `key = value` in `[section]`, replaced where it stands, else added.

    value: as TOML writes it, e.g. `"x"` or `[1, 2]`.
    """
    parts = re.split(r"(?m)^(?=\[)", toml)
    line = f"{key} = {value}\n"
    for number, part in enumerate(parts):
        if re.match(rf"\[{re.escape(section)}\]", part) is None:
            continue
        replaced, count = re.subn(rf"(?m)^{re.escape(key)}\s*=.*\n?", lambda _: line, part)
        parts[number] = replaced if count else part.rstrip("\n") + "\n" + line + "\n"
        return "".join(parts)
    return toml.rstrip("\n") + f"\n\n[{section}]\n{line}"


class PostroadServer:
    """One server: its directory, configuration and process."""

    def __init__(self, directory: Path, *, address: str = "127.0.0.1", offset: int) -> None:
        self.directory = directory
        self.config = directory / "postroad.toml"
        self.address = address
        self.offset = offset
        self.log = directory / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def port(self, name: str) -> int:
        return STANDARD_PORTS[name] + self.offset

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """`postroad ARGUMENTS -c CONFIG`; returns stdout.

        Raises: ServerFailed when it exits non-zero and `check` is set.
        """
        done = subprocess.run(
            [sys.executable, "-m", "postroad", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "POSTROAD_CONFIG": str(self.config), "NO_COLOR": "1"},
        )
        if check and done.returncode != 0:
            raise ServerFailed(
                f"postroad {shlex.join(arguments)}: exit {done.returncode}\n"
                + done.stdout
                + done.stderr
            )
        return done.stdout

    def init(
        self,
        domain: str,
        *,
        hostname: str | None = None,
        workers: int = 0,
        plaintext_on_loopback: bool = False,
        nameservers: Sequence[str] = (),
        delivery_port: int | None = None,
        options: Sequence[tuple[str, str, str]] = (),
    ) -> str:
        """`postroad init`; then the lab's DNS, the MX port and further options. Returns stdout."""
        arguments = ["init", str(self.directory), "--domain", domain, "--listen", self.address]
        arguments += ["--port-offset", str(self.offset), "--workers", str(workers)]
        if hostname is not None:
            arguments += ["--hostname", hostname]
        if plaintext_on_loopback:
            arguments.append("--plaintext-on-loopback")
        said = self.run(*arguments)
        changes = list(options)
        if nameservers:
            quoted = ", ".join(f'"{server}"' for server in nameservers)
            changes.append(("dns", "nameservers", f"[{quoted}]"))
        if delivery_port is not None:
            changes.append(("delivery", "port", str(delivery_port)))
        self.configure(changes)
        return said

    def configure(self, changes: Sequence[tuple[str, str, str]]) -> None:
        """Sets (section, key, TOML value) in the configuration file."""
        text = self.config.read_text(encoding="utf-8")
        for section, key, value in changes:
            text = set_option(text, section, key, value)
        self.config.write_text(text, encoding="utf-8")

    def add_accounts(self, addresses: Sequence[str], password: str) -> None:
        self.run("account", "add", *addresses, "--password-stdin", stdin=password + "\n")

    def add_account(self, address: str, password: str) -> None:
        self.add_accounts([address], password)

    def start(self, timeout_s: float = 30.0) -> float:
        """Starts the server and waits until it says that it is ready; returns the seconds.

        Raises: ServerFailed with the end of its log.
        """
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "postroad", "serve", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        said = b""
        while b"ready" not in said:
            left = began + timeout_s - time.monotonic()
            readable, _, _ = select.select([self.process.stdout], [], [], max(left, 0))
            octets = os.read(self.process.stdout.fileno(), 4096) if readable else b""
            if not octets:
                self.kill()
                raise ServerFailed(f"the server did not become ready:\n{self.log_end()}")
            said += octets
        return time.monotonic() - began

    def log_end(self, octets: int = 4000) -> str:
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-octets:].decode("utf-8", "replace")

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, and waits; returns the exit code. SIGKILL to the group when it hangs."""
        if self.process is None:
            return 0
        process = self.process
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()
        return process.returncode

    def kill(self) -> None:
        """kill -9 of the server and all its workers."""
        if self.process is None:
            return
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(10)
        self._forget()

    def _forget(self) -> None:
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def __enter__(self) -> PostroadServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
