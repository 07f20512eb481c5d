"""curl sends by SMTP and reads by IMAP and POP3, with TLS from the start and by STARTTLS."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.mail import with_attachment
from support.programs import needs, run

pytestmark = [pytest.mark.interop, needs("curl", "curl")]


@pytest.mark.parametrize(
    ("url", "extra"),
    [("smtps://127.0.0.1:{submissions}", []), ("smtp://127.0.0.1:{submission}", ["--ssl-reqd"])],
    ids=["implicit TLS", "STARTTLS"],
)
def test_send_and_read(
    server: PostroadServer, tmp_path: Path, url: str, extra: list[str], mailbox: str
) -> None:
    octets = with_attachment(f"curl-{mailbox}")
    file = tmp_path / "message.eml"
    file.write_bytes(octets)
    ports = {name: server.port(name) for name in ("submission", "submissions")}
    user = f"{mailbox}@x.example"
    server.add_account(user, "curl secret")
    octets = octets.replace(b"ann@x.example", user.encode())
    file.write_bytes(octets)
    run(
        ["curl", "-sS", "-k", *extra, "--url", url.format(**ports), "--user", f"{user}:curl secret"]
        + ["--mail-from", user, "--mail-rcpt", user, "--upload-file", file]
    )
    by_imap = run(
        ["curl", "-sS", "-k", "--user", f"{user}:curl secret"]
        + [f"imaps://127.0.0.1:{server.port('imaps')}/INBOX;UID=1"]
    ).stdout
    assert by_imap.endswith(octets)
    by_pop3 = run(
        ["curl", "-sS", "-k", "--user", f"{user}:curl secret"]
        + [f"pop3s://127.0.0.1:{server.port('pop3s')}/1"]
    ).stdout
    assert by_pop3 == by_imap
    listed = run(
        ["curl", "-sS", "-k", "--ssl-reqd", "--user", f"{user}:curl secret"]
        + [f"imap://127.0.0.1:{server.port('imap')}/", "-X", 'LIST "" "*"']
    ).stdout
    assert b"INBOX" in listed and b"\\Sent" in listed
    stls = run(
        ["curl", "-sS", "-k", "--ssl-reqd", "--user", f"{user}:curl secret"]
        + [f"pop3://127.0.0.1:{server.port('pop3')}/"]
    ).stdout
    assert stls.split() == [b"1", str(len(by_pop3)).encode()]


def test_append_search_and_fetch_parts(server: PostroadServer, tmp_path: Path) -> None:
    user = "curlparts@x.example"
    server.add_account(user, "curl secret")
    octets = with_attachment("parts")
    file = tmp_path / "message.eml"
    file.write_bytes(octets)
    base = ["curl", "-sS", "-k", "--user", f"{user}:curl secret"]
    at = f"imaps://127.0.0.1:{server.port('imaps')}"
    run([*base, "-T", file, f"{at}/Drafts"])
    assert run([*base, f"{at}/Drafts;UID=1"]).stdout == octets
    found = run([*base, f"{at}/Drafts?SUBJECT%20parts"]).stdout
    assert found.split() == [b"*", b"SEARCH", b"1"]
    part = run([*base, f"{at}/Drafts;UID=1;SECTION=1.1"]).stdout
    assert part.strip() == b"plain parts"


def test_wrong_password_is_refused(server: PostroadServer) -> None:
    done = run(
        ["curl", "-sS", "-k", "--user", "ann@x.example:wrong"]
        + [f"imaps://127.0.0.1:{server.port('imaps')}/INBOX;UID=1"],
        expect=None,
    )
    assert done.returncode == 67  # CURLE_LOGIN_DENIED
