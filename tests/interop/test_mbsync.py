"""mbsync, both ways with 1,000 messages: what goes up comes down, octets and flags."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.mail import plain
from support.programs import needs, run

pytestmark = [pytest.mark.interop, needs("mbsync", "isync"), pytest.mark.timeout(300)]

MESSAGES = 1000


def configuration(server: PostroadServer, certificate: Path, user: str, maildir: Path) -> str:
    return f"""\
IMAPAccount postroad
Host 127.0.0.1
Port {server.port("imaps")}
User {user}
Pass "sync secret"
SSLType IMAPS
CertificateFile {certificate}

IMAPStore far
Account postroad

MaildirStore near
Path {maildir}/
Inbox {maildir}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
Sync All
SyncState *
"""


def make_maildir(path: Path) -> None:
    for name in ("cur", "new", "tmp"):
        (path / name).mkdir(parents=True)


def contents(maildir: Path) -> dict[str, str]:
    """sha256 of each message (without mbsync's own X-TUID field) → its Maildir flags."""
    found = {}
    for folder in ("cur", "new"):
        for file in (maildir / folder).iterdir():
            octets = b"".join(
                line for line in file.read_bytes().splitlines(True) if line[:7] != b"X-TUID:"
            )
            found[hashlib.sha256(octets).hexdigest()] = file.name.partition(":2,")[2]
    return found


def test_a_thousand_messages_up_and_down(
    server: PostroadServer, certificate: Path, tmp_path: Path
) -> None:
    user = "sync@x.example"
    server.add_account(user, "sync secret")
    first, second = tmp_path / "first", tmp_path / "second"
    for device in (first, second):
        device.mkdir()
        (device / "rc").write_text(configuration(server, certificate, user, device / "mail"))
        (device / "mail").mkdir()
    inbox = first / "mail" / "INBOX"
    make_maildir(inbox)
    for number in range(MESSAGES):
        flags = ("", "S", "F", "RS")[number % 4]
        octets = plain(f"sync-{number}", size=2000).replace(b"\r\n", b"\n")
        (inbox / "cur" / f"{number}.test.host:2,{flags}").write_bytes(octets)
    sent = contents(inbox)
    assert len(sent) == MESSAGES

    run(["mbsync", "-c", first / "rc", "all"], timeout_s=200)
    run(["mbsync", "-c", second / "rc", "all"], timeout_s=200)
    assert contents(second / "mail" / "INBOX") == sent

    # The second device flags one message and deletes another; the first device learns of both.
    files = sorted((second / "mail" / "INBOX" / "cur").iterdir())
    flagged = next(file for file in files if file.name.endswith(":2,S"))
    flagged.rename(flagged.with_name(flagged.name.replace(":2,S", ":2,FS")))
    gone = next(file for file in files if file.name.endswith(":2,RS"))
    gone.unlink()
    run(["mbsync", "-c", second / "rc", "all"], timeout_s=100)
    run(["mbsync", "-c", first / "rc", "all"], timeout_s=100)
    after = contents(inbox)
    assert len(after) == MESSAGES - 1
    assert after == contents(second / "mail" / "INBOX")
    assert sorted(after.values()).count("FS") == 1
    assert (second / "mail" / "Sent").is_dir() and (first / "mail" / "Archive").is_dir()
