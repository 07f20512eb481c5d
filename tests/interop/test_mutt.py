"""mutt in batch mode: sends with an attachment, files the copy by IMAP, reads what it sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.programs import needs, run

pytestmark = [
    pytest.mark.interop,
    needs("mutt", "mutt"),
    needs("script", "bsdutils"),
]


def test_send_file_and_read(server: PostroadServer, certificate: Path, tmp_path: Path) -> None:
    user = "mutt@x.example"
    server.add_account(user, "mutt-secret")
    imap = f"imaps://mutt%40x.example@127.0.0.1:{server.port('imaps')}"
    rc = tmp_path / "muttrc"
    rc.write_text(
        f'set from="{user}" realname="Mutt User" use_from=yes\n'
        f'set smtp_url="smtps://mutt%40x.example@127.0.0.1:{server.port("submissions")}"\n'
        f'set smtp_pass="mutt-secret" imap_pass="mutt-secret"\n'
        f"set certificate_file={certificate} ssl_verify_host=no ssl_verify_dates=no\n"
        f'set record="{imap}/Sent" folder="{imap}/" copy=yes\n'
        f'set wait_key=no quit=yes sort=threads header_cache="{tmp_path}/cache"\n'
        f"set ssl_starttls=yes ssl_force_tls=yes\n"
    )
    attachment = tmp_path / "table.csv"
    attachment.write_text("a,b\n1,2\n")
    home = {"HOME": str(tmp_path), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    run(
        ["mutt", "-F", rc, "-s", "from mutt – grüße", "-a", attachment, "--", user],
        stdin="body text äöü\n".encode(),
        env=home,
    )
    for folder in ("INBOX", "Sent"):
        out = tmp_path / f"{folder}.eml"
        keys = f"<pipe-message>cat > {out}<enter><quit>"
        run(
            [
                "script",
                "-qec",
                f"mutt -F {rc} -f {imap}/{folder} -e 'push \"{keys}\"'",
                "/dev/null",
            ],
            stdin=b"",
            env=home,
        )
        octets = out.read_bytes()
        assert b"body text" in octets and b"table.csv" in octets, folder
