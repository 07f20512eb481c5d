"""SEARCH over decoded headers and bodies, dates as written, sets (RFC 3501 §6.4.4)."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest

from postroad.service.imapd import IMAPService
from support.imap import Client
from support.sites import make_site

MESSAGES = [
    # 1: encoded words, folded, base64 body in KOI8-R
    "From: =?utf-8?q?J=C3=BCrgen_Gro=C3=9F?= <jg@one.example>\r\n"
    "To: bob@two.example\r\n"
    "Subject: =?utf-8?b?" + base64.b64encode("Füße".encode()).decode() + "?=\r\n"
    " =?iso-8859-1?q?_und_B=E4r?=\r\n"
    "Date: Tue, 01 Sep 2026 23:30:00 -0800\r\n"
    "Content-Type: text/plain; charset=koi8-r\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode("Привет, мир".encode("koi8-r")).decode() + "\r\n",
    # 2: quoted-printable with soft break, utf-8; X-Flag
    "From: carol@three.example\r\nTo: ann@one.example\r\nCc: Dave <dave@four.example>\r\n"
    "Subject: plain words\r\nX-Flag: yes\r\nDate: Wed, 02 Sep 2026 00:30:00 +0900\r\n"
    "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
    "a long li=\r\nne, caf=C3=A9 =E2=82=AC5\r\n",
    # 3: multipart, an embedded message, no Date
    "From: eve@five.example\r\nSubject: forwarded\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    "--b\r\nContent-Type: text/html; charset=iso-8859-1\r\n"
    "Content-Transfer-Encoding: quoted-printable\r\n\r\n<p>na=EFve</p>\r\n"
    "--b\r\nContent-Type: message/rfc822\r\n\r\n"
    "From: inner@six.example\r\nSubject: =?utf-8?q?inn=C3=A9r?=\r\n\r\ninner body\r\n"
    "--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode(b"hidden in data").decode() + "\r\n--b--\r\n",
    # 4: nothing much, raw 8-bit in a header
    "Subject: r\u00e9sum\u00e9\r\nBcc: secret@seven.example\r\n\r\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Each query's answer, all asked in one session."""

    async def run() -> dict[str, bytes]:
        directory: Path = tmp_path_factory.mktemp("search")
        out = {}
        async with make_site(directory, plaintext_on_loopback=True) as made:
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                await client.ok(b"ENABLE UTF8=ACCEPT")  # one of them has 8-bit in its header
                for number, text in enumerate(MESSAGES):
                    head = b'(k%d) " 3-Sep-2026 0%d:00:00 +0000" ' % (number, number)
                    octets = text.encode()
                    await client.ok(b"APPEND INBOX %b{%d+}\r\n%b" % (head, len(octets), octets))
            async with Client(IMAPService(made.site, False)) as client:
                await client.login()
                await client.ok(b"SELECT INBOX")
                for query, _ in QUERIES:
                    encoded = query.encode()
                    out[query] = (await client.ok(b"SEARCH " + encoded))[0]
        return out

    return asyncio.run(run())


QUERIES: list[tuple[str, list[int]]] = [
    ("ALL", [1, 2, 3, 4]),
    ('CHARSET UTF-8 FROM "jürgen groß"', [1]),
    ('CHARSET UTF-8 FROM "JÜRGEN GROSS"', [1]),  # ß folds to ss
    ("FROM one.example", [1]),
    ('CHARSET UTF-8 SUBJECT "füsse"', [1]),
    ('CHARSET UTF-8 SUBJECT "FÜSSE UND BÄR"', [1]),
    ('CHARSET UTF-8 SUBJECT "résumé"', [4]),
    ("SUBJECT =?utf-8", []),
    ("TO ann@one", [2]),
    ("CC dave", [2]),
    ("BCC SECRET", [4]),
    ('HEADER X-Flag ""', [2]),
    ("HEADER x-flag YES", [2]),
    ("HEADER X-Fla yes", []),
    ("NOT HEADER Date x", [1, 2, 3, 4]),
    ('NOT HEADER Date ""', [3, 4]),
    ('CHARSET UTF-8 BODY "привет"', [1]),
    ('CHARSET UTF-8 TEXT "ПРИВЕТ"', [1]),
    ('BODY "a long line"', [2]),
    ('CHARSET UTF-8 BODY "€5"', [2]),
    ('CHARSET UTF-8 BODY "NAÏVE"', [3]),
    ('BODY "inner body"', [3]),
    ('CHARSET UTF-8 BODY "innér"', [3]),
    ('BODY "hidden in data"', []),
    ("BODY forwarded", []),
    ("TEXT forwarded", [3]),
    ("TEXT plain", [1, 2]),
    ("KEYWORD K1", [2]),
    ("UNKEYWORD k1", [1, 3, 4]),
    ("SENTON 1-Sep-2026", [1]),  # the day is the sender's own (RFC 3501 §6.4.4)
    ("SENTON 2-Sep-2026", [2]),
    ("SENTBEFORE 2-Sep-2026", [1]),
    ("SENTSINCE 2-Sep-2026", [2]),
    ("ON 3-Sep-2026", [1, 2, 3, 4]),
    ("BEFORE 3-Sep-2026", []),
    ("SINCE 4-Sep-2026", []),
    ("SMALLER 100", [4]),
    ("LARGER 100", [1, 2, 3]),
    ("2:3", [2, 3]),
    ("NOT 2:3", [1, 4]),
    ("UID 3:* NOT 4", [3]),
    ("OR 1 FROM eve", [1, 3]),
    ("OR (1 SUBJECT x) (OR 4 KEYWORD k1)", [2, 4]),
    ("NEW", [1, 2, 3, 4]),
    ("OLD", []),
    ("SEEN", []),
    ("YOUNGER 100", []),
    ("OLDER 100", [1, 2, 3, 4]),
]


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=[query for query, _ in QUERIES])
def test_search(answers: dict[str, bytes], query: str, expected: list[int]) -> None:
    assert [int(word) for word in answers[query].split()[2:]] == expected
