"""IMAP URLs that mean messages (RFC 5092, RFC 4467 §9, RFC 5550 §5.7.1)."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from postroad.mail.errors import ProtocolError
from postroad.protocol.imap.url import Access, MessageURL, Section, Verifier, Who, parse_url

TOKEN = b"01" + b"0123456789abcdefABCDEF0123456789"


def url(**fields: object) -> MessageURL:
    plain: dict[str, object] = {
        "absolute": False, "user": "", "mailbox": "INBOX", "uidvalidity": 0, "uid": 20,
        "section": Section(), "start": -1, "length": -1, "expires": None, "access": None,
        "verifier": None, "rump": b"",
    }  # fmt: skip
    return MessageURL(**{**plain, **fields})  # type: ignore[arg-type]  # checked by the dataclass


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (b"/INBOX/;UID=20", url()),
        (b"/inbox/;uid=20", url()),
        (b"/Drafts;UIDVALIDITY=385759045/;UID=20/;section=HEADER",
         url(mailbox="Drafts", uidvalidity=385759045, section=Section((), "HEADER"))),
        (b"/INBOX;UIDVALIDITY=785799047/;UID=20/;section=1.5.9",
         url(uidvalidity=785799047, section=Section((1, 5, 9)))),
        (b"/INBOX/;UID=20/;SECTION=1.2.mime", url(section=Section((1, 2), "MIME"))),
        (b"/INBOX/;UID=20/;SECTION=2.HEADER.FIELDS.NOT%20(%22a%22%20B)",
         url(section=Section((2,), "HEADER", (b"a", b"b"), True))),
        (b"/INBOX/;UID=20/;PARTIAL=0.1024", url(start=0, length=1024)),
        (b"/INBOX/;UID=20/;SECTION=TEXT/;PARTIAL=7",
         url(section=Section((), "TEXT"), start=7)),
        (b";UID=20/;SECTION=1", url(mailbox=None, section=Section((1,)))),
        (b"/a/b%20c/%C3%A4%3B%2F;UIDVALIDITY=1/;UID=20",
         url(mailbox="a/b c/ä;/", uidvalidity=1)),
        (b"imap://fred@example.com/INBOX/;uid=20", url(absolute=True, user="fred")),
        (b"IMAP://a%40b;AUTH=*@[::1]:993/INBOX/;uid=20", url(absolute=True, user="a@b")),
        (b"//host/INBOX/;uid=20", url(absolute=True)),
        (b"imap://joe@example.com/INBOX/;uid=20/;section=1.2;urlauth=submit+fred:internal:" + TOKEN,
         url(absolute=True, user="joe", section=Section((1, 2)), access=Access(Who.SUBMIT, "fred"),
             verifier=Verifier("INTERNAL", TOKEN))),
        (b"imap://joe@h/INBOX/;uid=20/;expire=2005-10-28T23:59:59Z;urlauth=user+a%40b",
         url(absolute=True, user="joe", expires=1130543999.0, access=Access(Who.USER, "a@b"))),
        (b"imap://joe@h/INBOX/;uid=20;EXPIRE=2005-10-29t01:59:60.5+02:00;URLAUTH=AuthUser",
         url(absolute=True, user="joe", expires=1130543999.5, access=Access(Who.AUTHUSER, ""))),
        (b"imap://joe@h/INBOX/;uid=20;urlauth=anonymous",
         url(absolute=True, user="joe", access=Access(Who.ANONYMOUS, ""))),
    ],
)  # fmt: skip
def test_what_urls_mean(text: bytes, meaning: MessageURL) -> None:
    found = parse_url(text)
    rump = text.partition(b":internal:")[0]
    assert found == MessageURL(
        **{name: getattr(meaning, name) for name in MessageURL.__slots__ if name != "rump"},
        rump=rump,
    )


@pytest.mark.parametrize(
    "text",
    [
        b"", b"/", b"/INBOX", b"imap://h", b"imap://h/", b"imap://u@h/INBOX", b"/INBOX?FROM%20x",
        b"/INBOX/;UID=0", b"/INBOX/;UID=4294967296", b"/INBOX/;UID=x", b"/INBOX;UID=20",
        b"INBOX/;UID=20", b"//;UID=20", b"///;UID=20", b"/./x/;UID=1", b"/a/../;UID=1",
        b"/..;UIDVALIDITY=1/;UID=1", b"/INBOX/;UID=20/;PARTIAL=1.0", b"/INBOX/;UID=20/;PARTIAL=.5",
        b"/INBOX/;UID=20/;PARTIAL=4294967296", b"/INBOX/;UID=20/;SECTION=",
        b"/INBOX/;UID=20/;SECTION=0", b"/INBOX/;UID=20/;SECTION=1.0", b"/INBOX/;UID=20/;SECTION=1.",
        b"/INBOX/;UID=20/;SECTION=MIME", b"/INBOX/;UID=20/;SECTION=TEXT.1",
        b"/INBOX/;UID=20/;SECTION=HEADER.FIELDS", b"/INBOX/;UID=20/;SECTION=HEADER.FIELDS%20()",
        b"/INBOX/;UID=20/;SECTION=HEADER.FIELDS%20(a", b"/INBOX/;UID=20/;SECTION=%5D",
        b"/INBOX/;UID=20/", b"/INBOX/;UID=20;", b"/INBOX/;UID=20#x", b"/IN BOX/;UID=20",
        b"/\xc3\xa4/;UID=20", b"/%C3/;UID=20", b"/%/;UID=20", b"/%4/;UID=20", b"/%00/;UID=20",
        b"/a%0D%0A/;UID=20", b"http://h/INBOX/;UID=20", b"imap:/INBOX/;UID=20",
        b"imap://u@h:x/INBOX/;UID=20", b"imap://u@/INBOX/;UID=20", b"imap://h/;UID=20",
        b"imap://%FF@h/INBOX/;UID=20", b"/INBOX/;UID=20;urlauth=", b"/INBOX/;UID=20;urlauth=who",
        b"/INBOX/;UID=20;urlauth=user+", b"/INBOX/;UID=20;urlauth=anonymous+x",
        b"/INBOX/;UID=20;urlauth=anonymous:internal:0123", b"/INBOX/;UID=20;urlauth=anonymous:x",
        b"/INBOX/;UID=20;expire=tomorrow;urlauth=anonymous",
        b"/INBOX/;UID=20;expire=2005-02-30T00:00:00Z;urlauth=anonymous",
        b"/INBOX/;UID=20;expire=2005-02-20T00:00:00;urlauth=anonymous",
        b"/INBOX/;UID=20;urlauth=anonymous;expire=2005-02-20T00:00:00Z",
        b"/" + b"x" * 9000 + b"/;UID=20",
    ],
)  # fmt: skip
def test_what_means_no_message(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_url(text)


_PIECES = st.sampled_from(
    [b"imap:", b"//", b"/", b"ann@h", b"INBOX", b";UID=", b"1", b"/;SECTION=", b"1.2", b"HEADER",
     b".FIELDS%20(", b"a", b")", b"/;PARTIAL=", b"0.5", b";EXPIRE=", b"2026-01-01T00:00:00Z",
     b";URLAUTH=", b"anonymous", b"user+x", b":internal:", TOKEN, b"%20", b"%", b"..", b";", b"="]
)  # fmt: skip


@given(st.lists(st.one_of(_PIECES, st.binary(max_size=4)), max_size=14).map(b"".join))
@example(b"imap://" + b"a" * 4000 + b"@" * 4000)
@example(b"/" + b"a/" * 4000 + b";UID=x")
def test_hostile_urls_are_always_answered(text: bytes) -> None:
    try:
        found = parse_url(text)
    except ProtocolError:
        return
    assert found.uid > 0
    assert text.startswith(found.rump)


@given(st.text(min_size=1, max_size=40), st.integers(1, 2**32 - 1))
def test_any_mailbox_can_be_written(name: str, uid: int) -> None:
    """Percent-encoded, as RFC 5092 §8 has it."""
    escaped = b"".join(b"%%%02x" % octet for octet in name.encode("utf-8", "replace"))
    try:
        found = parse_url(b"/%b/;UID=%d" % (escaped, uid))
    except ProtocolError as error:
        assert "Mailbox name" in str(error)
        return
    assert found.mailbox is not None
    if not name.upper().startswith("INBOX"):
        assert found.mailbox == name.encode("utf-8", "replace").decode()
    assert found.uid == uid
