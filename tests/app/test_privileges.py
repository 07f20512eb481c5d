"""A server started as root on the standard ports serves as another user, with all it needs."""

from __future__ import annotations

import imaplib
import os
import poplib
import pwd
import shutil
import signal
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroad.app import sockets
from postroad.app.config import Config, Server
from postroad.app.sockets import CannotStart
from postroad.lab.process import set_option
from support.mail import plain

ADDRESS = "127.0.0.83"
NOBODY = "nobody"
NO_LATE_IMPORTS = """
import os, sys
class NoLateImports:
    def find_spec(self, name, path=None, target=None):
        if os.geteuid() != 0:
            os.write(2, b"late import: %b\\n" % name.encode())
            raise ImportError(f"late import of {name}")
sys.meta_path.insert(0, NoLateImports())
"""
"""As when the interpreter lies below a directory that the server's user may not enter."""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that others may enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="postroad-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def talk(context: ssl.SSLContext) -> None:
    """Every service, with charsets and codecs that nothing has used yet."""
    charset = b"\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n\xd0\xd2\xc9"
    octets = plain("port 25").replace(b"\r\n\r\n", charset, 1)
    with smtplib.SMTP(ADDRESS, 25, timeout=20) as client:
        client.sendmail("bob@y.example", ["ann@x.example"], octets)
    with smtplib.SMTP(ADDRESS, 587, timeout=20) as client:
        client.starttls(context=context)
        client.login("ann@x.example", "secret")
        client.sendmail(
            "ann@x.example", ["ann@x.example"], plain("587").replace(b"elsewhere", b"x")
        )
    with imaplib.IMAP4_SSL(ADDRESS, 993, ssl_context=context, timeout=20) as imap:
        imap.login("ann@x.example", "secret")
        assert imap.select("INBOX")[1] == [b"2"]
        assert imap.fetch("1:*", "(ENVELOPE BODYSTRUCTURE BODY.PEEK[])")[0] == "OK"
        imap.literal = "при".encode()
        assert imap.search("UTF-8", "BODY")[0] == "OK"
    pop3 = poplib.POP3_SSL(ADDRESS, 995, context=context, timeout=20)
    pop3.user("ann@x.example")
    pop3.pass_("secret")
    assert pop3.stat()[0] == 2
    pop3.quit()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may bind ports below 1024 and give up")
def test_root_binds_and_nobody_serves_without_reading_a_program_again(open_directory: Path) -> None:
    hook = open_directory / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(NO_LATE_IMPORTS)
    home = open_directory / "mail"
    postroad = [sys.executable, "-m", "postroad"]
    made = [*postroad, "init", str(home), "--domain", "x.example", "--listen", ADDRESS]
    subprocess.run([*made, "--user", NOBODY, "--workers", "0"], check=True, capture_output=True)
    config = home / "postroad.toml"
    silent = '["127.0.0.1:9"]'  # nobody answers there: SPF is temperror at once
    config.write_text(set_option(config.read_text(), "dns", "nameservers", silent))
    command = [*postroad, "account", "add", "ann@x.example", "--password-stdin", "-c", str(home)]
    subprocess.run(command, input=b"secret\n", check=True, capture_output=True)
    log = open_directory / "log"
    process = subprocess.Popen(
        [*postroad, "serve", "-c", str(home)],
        stdout=subprocess.PIPE,
        stderr=log.open("wb"),
        env={**os.environ, "PYTHONPATH": str(hook)},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"postroad ready"), log.read_text()
        nobody = pwd.getpwnam(NOBODY).pw_uid
        assert Path(f"/proc/{process.pid}").stat().st_uid == nobody
        context = ssl._create_unverified_context()
        talk(context)
        process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while "ConfigurationReloaded" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()  # type: ignore[union-attr]
    assert "late import" not in log.read_text(), log.read_text()
    owners = {path.stat().st_uid for path in (home / "data").rglob("*")}
    assert owners == {nobody}, "root left nothing of its own in there"
    subprocess.run([*postroad, "verify", "-c", str(home)], check=True, capture_output=True)


def test_an_interpreter_that_the_user_cannot_read_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else the first worker that dies could not be replaced, some night."""
    monkeypatch.setattr(os, "access", lambda path, mode: path != sys.executable)
    with pytest.raises(CannotStart, match=r"cannot read .*python.*workers = 0"):
        sockets._demand_program("postroad")
    monkeypatch.undo()
    sockets._demand_program("postroad")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give privileges up")
def test_who_cannot_serve_says_so_before_any_root_is_given_up(tmp_path: Path) -> None:
    config = Config(server=Server(hostname="mx.x.example", data_dir=str(tmp_path), user=NOBODY))
    called = []
    with pytest.raises(CannotStart, match="does not belong to nobody"):
        sockets.drop_privileges(config, lambda: called.append(1))
    assert os.geteuid() == 0 and not called
