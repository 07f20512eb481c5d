"""Delivery reports: read back by stdlib email and by our own scanner; closed to injection."""

from __future__ import annotations

import email
import email.policy
import os
import re
from datetime import UTC, datetime, timedelta
from email.message import Message
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.address import Address
from postroad.mail.reply import Reply
from postroad.message.dsn import ORIGINAL_OCTETS_MAX, DSNRecipient, render_dsn
from postroad.message.dsn_text import explain
from postroad.message.header import parse_header
from postroad.message.section import locate
from postroad.message.structure import unpack
from postroad.message.summary import summarize

NOW = datetime(2026, 11, 23, 22, 15, 20, tzinfo=UTC)
VECTORS = Path(__file__).parent / "vectors"
HEADER = b"From: alice@one.example\r\nSubject: Hi\r\nMessage-ID: <1@one.example>\r\n\r\n"

BOB = DSNRecipient(
    final="bob@two.example",
    original="rfc822;bob+2Btag@two.example",
    status="5.1.1",
    diagnostic=Reply.of(550, "5.1.1", "No such user here", "Ask postmaster@two.example"),
    remote="mx.two.example",
    last_attempt=NOW,
)
CAROL = DSNRecipient(
    final="carol@three.example",
    action="delayed",
    status="4.4.1",
    last_attempt=NOW,
    will_retry_until=NOW + timedelta(days=5),
)


def report(**changes: object) -> bytes:
    given: dict[str, object] = {
        "hostname": "mx.one.example",
        "reverse_path_of_original": Address("alice", "one.example"),
        "message_id": "0abc",
        "now": NOW,
        "arrival": NOW - timedelta(hours=1),
        "envid": "QQ314159+2B",
        "recipients": [BOB],
        "original_header": HEADER,
        "original": None,
        "smtputf8": False,
        "boundary": "=_0abc",
    }
    return render_dsn(**{**given, **changes})  # type: ignore[arg-type]


def parts(octets: bytes) -> list[bytes]:
    structure = summarize(octets).structure
    found = []
    for number in (1, 2, 3):
        span = locate(structure, (number,))
        assert span is not None
        found.append(octets[slice(*span)])
    assert locate(structure, (4,)) is None
    return found


def kinds(octets: bytes) -> list[bytes]:
    root = unpack(summarize(octets).structure)
    return [child.type + b"/" + child.subtype for child in root.children]


def check_wire(octets: bytes) -> None:
    """CRLF lines of legal length, no NUL."""
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets)
    assert max(map(len, octets.split(b"\r\n"))) <= 998
    assert octets.endswith(b"\r\n")


SNAPSHOTS = {
    "failed.eml": {},
    "delayed.eml": {"recipients": [CAROL]},
    "mixed-full.eml": {"recipients": [BOB, CAROL], "original": HEADER + b"Hello Bob\r\n"},
    "delivered.eml": {
        "recipients": [
            DSNRecipient(final="bob@two.example", action="delivered", status="2.0.0"),
            DSNRecipient(
                final="carol@three.example",
                action="relayed",
                status="2.0.0",
                diagnostic=Reply.of(250, "2.0.0", "Ok: queued"),
                remote="mx.three.example",
            ),
        ],
        "envid": None,
        "arrival": None,
    },
    "international.eml": {
        "reverse_path_of_original": Address("älice", "öne.example"),
        "recipients": [DSNRecipient(final="bøb@two.example", status="5.6.7")],
        "smtputf8": True,
        "original_header": "Subject: Grüße\r\n\r\n".encode(),
        "original": "Subject: Grüße\r\n\r\nHallo\r\n".encode(),
    },
}


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_snapshots(name: str) -> None:
    """Written by this module, read by people; POSTROAD_SNAPSHOTS=write makes them anew."""
    octets = report(**SNAPSHOTS[name])
    check_wire(octets)
    file = VECTORS / "dsn" / name
    if os.environ.get("POSTROAD_SNAPSHOTS") == "write":
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(octets)
    assert octets == file.read_bytes()


def test_stdlib_reads_the_report() -> None:
    parsed = email.message_from_bytes(report(original=HEADER + b"x\r\n"))
    assert parsed.get_content_type() == "multipart/report"
    assert parsed.get_param("report-type") == "delivery-status"
    assert parsed["Auto-Submitted"] == "auto-replied"
    assert parsed["To"] == "<alice@one.example>"
    assert parsed["From"] == "Mail Delivery System <MAILER-DAEMON@mx.one.example>"
    assert parsed["References"] == "<1@one.example>"
    assert parsed["Message-ID"] == "<0abc@mx.one.example>"
    payload = parsed.get_payload()
    assert isinstance(payload, list)
    text, status, original = payload
    assert isinstance(text, Message) and isinstance(status, Message)
    assert "There is no such mailbox" in text.get_payload()
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    about, bob = blocks
    assert about["Reporting-MTA"] == "dns; mx.one.example"
    assert about["Original-Envelope-Id"] == "QQ314159+"
    assert about["Arrival-Date"] == "Mon, 23 Nov 2026 21:15:20 +0000"
    assert bob["Original-Recipient"] == "rfc822; bob+tag@two.example"
    assert bob["Final-Recipient"] == "rfc822; bob@two.example"
    assert (bob["Action"], bob["Status"]) == ("failed", "5.1.1")
    assert bob["Remote-MTA"] == "dns; mx.two.example"
    assert bob["Last-Attempt-Date"] == "Mon, 23 Nov 2026 22:15:20 +0000"
    assert "".join(bob["Diagnostic-Code"].splitlines()) == (
        "smtp; 550 5.1.1 No such user here Ask postmaster@two.example"
    )
    assert original.get_content_type() == "message/rfc822"
    assert original.get_payload(0)["Subject"] == "Hi"


def test_header_only_or_whole() -> None:
    full = HEADER + b"text\r\n"
    assert parts(report())[2] == HEADER[:-2]
    assert kinds(report())[2] == b"text/rfc822-headers"
    assert parts(report(original=full))[2] == full
    assert kinds(report(original=full))[2] == b"message/rfc822"
    large = full + b"x\r\n" * (ORIGINAL_OCTETS_MAX // 3)
    assert kinds(report(original=large))[2] == b"text/rfc822-headers"
    for unsendable in (full + b"a\nb", full + b"a\0\r\n", full + b"x" * 1000 + b"\r\n"):
        assert kinds(report(original=unsendable))[2] == b"text/rfc822-headers"
        check_wire(report(original=unsendable))


def test_seven_bit_where_it_can_be() -> None:
    assert report().isascii()
    latin = b"Subject: \xe4\r\n\r\n"
    octets = report(original_header=latin)
    assert octets.isascii() and b"Subject: =E4" in octets
    octets = report(original=b"Subject: x\r\n\r\n\xe4\r\n")
    assert b"Content-Transfer-Encoding: 8bit" in parse_header(octets)[0].raw


def test_utf8_addresses() -> None:
    """RFC 6533 §3: the utf-8 type, as it is or in xtext of ASCII."""
    recipient = DSNRecipient(
        final="bøb@two.example", original="utf-8;b\\x{F8}b@two.example", status="5.6.7"
    )
    octets = report(recipients=[recipient], smtputf8=True)
    assert kinds(octets)[1] == b"message/global-delivery-status"
    assert "Final-Recipient: utf-8; bøb@two.example\r\n".encode() in octets
    assert "Original-Recipient: utf-8; bøb@two.example\r\n".encode() in octets
    octets = report(recipients=[recipient])
    assert octets.isascii()
    assert kinds(octets)[1] == b"message/delivery-status"
    assert b"Final-Recipient: utf-8; b\\x{F8}b@two.example\r\n" in octets
    assert b"Original-Recipient: utf-8; b\\x{F8}b@two.example\r\n" in octets


def test_a_boundary_in_the_original_is_evaded() -> None:
    original = HEADER + b"--=_0abc\r\n--=_0abc_1--\r\n"
    octets = report(original=original)
    assert parts(octets)[2] == original


TEXT = st.text(max_size=40) | st.text(alphabet='ab@<>"\\;:.+\r\n\x00é{}x-=', max_size=60)
LINES = st.lists(TEXT.map(lambda text: re.sub("[\r\n\0]", "", text)), min_size=1, max_size=3).map(
    tuple
)


@settings(max_examples=150, deadline=None)
@given(
    final=TEXT,
    original=TEXT,
    remote=TEXT,
    envid=TEXT,
    lines=LINES,
    header=st.binary(max_size=80),
    smtputf8=st.booleans(),
)
def test_nothing_that_others_said_leaves_its_place(
    final: str,
    original: str,
    remote: str,
    envid: str,
    lines: tuple[str, ...],
    header: bytes,
    smtputf8: bool,
) -> None:
    recipient = DSNRecipient(
        final=final,
        original=original,
        remote=remote,
        diagnostic=Reply(550, None, lines),
        status="5.0.0",
    )
    octets = report(recipients=[recipient], envid=envid, original_header=header, smtputf8=smtputf8)
    check_wire(octets)
    assert smtputf8 or octets.isascii()
    (_, status, _) = parts(octets)
    blocks = status.split(b"\r\n\r\n")
    assert len(blocks) == 2
    keys = [field.key for field in parse_header(blocks[1] + b"\r\n")[0]]
    assert keys == [
        key
        for key in (
            b"original-recipient" if original else b"",
            b"final-recipient",
            b"action",
            b"status",
            b"remote-mta" if remote else b"",
            b"diagnostic-code",
        )
        if key
    ]
    top = [field.key for field in parse_header(octets)[0]]
    assert top.count(b"to") == 1 and b"bcc" not in top
    assert len(parse_header(blocks[0] + b"\r\n")[0]) in (2, 3)


def test_long_words_are_cut() -> None:
    recipient = DSNRecipient(
        final="b@" + "x" * 3000, diagnostic=Reply.of(550, None, "y" * 5000), remote="z" * 3000
    )
    check_wire(report(recipients=[recipient]))


def test_a_huge_header_goes_back_cut_at_a_field() -> None:
    header = HEADER[:-2] + b"X-Filler: x\r\n" * 20_000 + b"\r\n"
    returned = parts(report(original_header=header))[2]
    assert returned.startswith(HEADER[:-2])
    assert returned.endswith(b"X-Filler: x\r\n")
    assert len(returned) < 70_000


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("failed", (1, 1), "no such mailbox"),
        ("failed", (2, 2), "full"),
        ("failed", (1, 2), "domain"),
        ("failed", (1, 10), "takes no mail"),
        ("failed", (4, 4), "could not be reached"),
        ("failed", (4, 7), "gave up"),
        ("failed", (7, 1), "own rules"),
        ("failed", (7, 26), "could not be verified"),
        ("failed", (3, 4), "larger"),
        ("failed", (0, 0), "refused"),
        ("failed", (9, 9), "refused"),
        ("delayed", (4, 7), "could not be reached"),
        ("delivered", (0, 0), "put into"),
    ],
)
def test_each_cause_has_its_words(action: str, status: tuple[int, int], said: str) -> None:
    what, todo = explain(action, *status)
    assert said in what
    assert todo or action == "delivered"


def test_nonsense_does_not_construct() -> None:
    with pytest.raises(ValueError, match="action"):
        DSNRecipient(final="a@b", action="lost")
    with pytest.raises(ValueError, match="status"):
        DSNRecipient(final="a@b", status="5.1")
    with pytest.raises(ValueError, match="at least one"):
        report(recipients=[])
