"""Hostile and ordinary messages out of hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

LINES = st.sampled_from(
    [
        b"From: Alice <alice@one.example>",
        b'From: "A \\" (b" <a@b>, c@d (Carol)',
        b"To: Friends: a@b, c@d;, e@f",
        b"To: \xc3\xa4@\xc3\xb6.example, <@x,@y:z@w>",
        b"Subject: =?utf-8?q?h=C3=A9?= =?utf-8?b?w6k=?= x",
        b"Subject: \xe4\xf6\xfc\x00",
        b"Date: Mon, 23 Nov 2026 22:15:20 +0000",
        b"Date: nonsense (((",
        b"Message-ID: <a@b>",
        b"Reply-To: ,,;:<>@",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Type: text/html; charset=x-unknown; a=b c=d;;;",
        b"Content-Type: multipart/mixed; boundary=a",
        b'Content-Type: multipart/digest; boundary="b c"',
        b"Content-Type: multipart/alternative; boundary=aa",
        b"Content-Type: message/rfc822",
        b"Content-Type: message/rfc\x00822",
        b"Content-Type: multipart/mixed",
        b"Content-Type: (comment \\( /",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Disposition: attachment; filename*0*=utf-8''%e4; filename*1=x",
        b"Content-Language: de, en",
        b"Content-MD5: Q2hlY2sgSW50ZWdyaXR5IQ==",
        b"Content-ID: <x@y>",
        b'Content-Description: "a\\b"',
        b"\tcontinued",
        b" ",
        b"",
        b"",
        b"--a",
        b"--a",
        b"--a--",
        b"--aa",
        b"--aa--",
        b"--b c",
        b"--b c--",
        b"--a \t",
        b"hello =C3=A9 world=",
        b"PGI+aMOpPC9iPg==",
        b"<b>bold</b>&amp;<script>x",
        b"no field here",
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])

MESSAGES = st.lists(st.tuples(LINES, ENDS), max_size=40).map(
    lambda lines: b"".join(line + end for line, end in lines)
)
"""Lines that mean something, in any order, with any line ends."""

HEADS = st.lists(
    st.sampled_from(
        [
            b"Return-Path: <a@b>\r\n",
            b"Received: from x by y;\r\n\tMon, 23 Nov 2026 22:15:20 +0000\r\n",
            b"Date: Mon, 23 Nov 2026 22:15:21 +0000\r\n",
        ]
    ),
    max_size=3,
).map(b"".join)

OCTETS = MESSAGES | st.binary(max_size=300)
