"""Address lists: RFC 5322's examples, obsolete forms, damage, and foreign vectors."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.message.addresses import Group, MailboxAddress, mailboxes, parse_addresses
from postroad.message.header import unfold
from postroad.message.words import decode_words


def box(display: bytes | None, local: bytes, domain: bytes) -> MailboxAddress:
    return MailboxAddress(display, local, domain)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b.c", [box(None, b"a", b"b.c")]),
        (b"<a@b.c>", [box(None, b"a", b"b.c")]),
        (b"John Doe <jdoe@machine.example>", [box(b"John Doe", b"jdoe", b"machine.example")]),
        (
            b'"Joe Q. Public" <john.q.public@example.com>, Mary Smith <mary@x.test>,'
            b" jdoe@example.org, Who? <one@y.test>",
            [
                box(b"Joe Q. Public", b"john.q.public", b"example.com"),
                box(b"Mary Smith", b"mary", b"x.test"),
                box(None, b"jdoe", b"example.org"),
                box(b"Who?", b"one", b"y.test"),
            ],
        ),
        (
            b'"Giant; \\"Big\\" Box" <sysservices@example.net>',
            [box(b'Giant; "Big" Box', b"sysservices", b"example.net")],
        ),
        (
            b"A Group:Ed Jones <c@a.test>,joe@where.test,John <jdoe@one.test>;",
            [
                Group(
                    b"A Group",
                    (
                        box(b"Ed Jones", b"c", b"a.test"),
                        box(None, b"joe", b"where.test"),
                        box(b"John", b"jdoe", b"one.test"),
                    ),
                )
            ],
        ),
        (b"Undisclosed recipients:;", [Group(b"Undisclosed recipients", ())]),
        (
            b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>",
            [box(b"Pete", b"pete", b"silly.test")],
        ),
        (
            b"Mary Smith <@node.test:mary@example.net>, , jdoe@test  . example",
            [
                MailboxAddress(b"Mary Smith", b"mary", b"example.net", b"@node.test"),
                box(None, b"jdoe", b"test.example"),
            ],
        ),
        (b"a@b (Ann)", [box(b"Ann", b"a", b"b")]),
        (b"<a@b> (Ann)", [box(b"Ann", b"a", b"b")]),
        (b'"john doe"@x.test', [box(None, b"john doe", b"x.test")]),
        (b'"a@b"@x.test', [box(None, b"a@b", b"x.test")]),
        (b"a@[192.0.2.1]", [box(None, b"a", b"[192.0.2.1]")]),
        (b"root", [box(None, b"root", b"")]),
        (b"a b c@d.e", [box(b"a b", b"c", b"d.e")]),
        (b"a@b . c d", [box(b"d", b"a", b"b.c")]),
        (b"<no one@b . c>", [box(None, b"no one", b"b.c")]),
        (b"A <a . b @ c>", [box(b"A", b"a.b", b"c")]),
        (b"<a@b> <c@d>", [box(None, b"a", b"b"), box(None, b"c", b"d")]),
        (b"a@b; c@d", [box(None, b"a", b"b"), box(None, b"c", b"d")]),
        (b"Name <>", [box(b"Name", b"", b"")]),
        (b"<>", []),
        (b"", []),
        (b", ,", []),
        ("é <ü@ö.example>".encode(), [box("é".encode(), "ü".encode(), "ö.example".encode())]),
        (b'"open <a@b>', [box(None, b"open <a@b>", b"")]),
        (b"(open <a@b>", []),
    ],
)
def test_parsing(value: bytes, expected: list[MailboxAddress | Group]) -> None:
    assert parse_addresses(value) == expected


def test_the_short_way_and_the_long_way_agree() -> None:
    """A leading empty member sends the same text down the general reader."""
    for value in (b"a@b.c", b"J D <a@b>, x@y", b'"J, D" <a@b>', b"J. D. <a@b> , c@d"):
        assert parse_addresses(value) == parse_addresses(b"()," + value)


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=120) | st.text(alphabet='ab@.<>(),;:"\\ \t[]', max_size=80).map(str.encode)
)
def test_any_octets_are_survived(value: bytes) -> None:
    for mailbox in mailboxes(parse_addresses(value)):
        assert b"\n" not in mailbox.local + mailbox.domain + (mailbox.display or b"")


_WORD = st.text(alphabet="abcxyz019!#$%&'*+-/=?^_`{|}~", min_size=1, max_size=8)
_DISPLAY = st.text(alphabet='abc ,;:<>@"\\()', min_size=1, max_size=12).map(str.strip)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(_DISPLAY, _WORD, _WORD), min_size=1, max_size=5))
def test_what_is_quoted_rightly_comes_back(wanted: list[tuple[str, str, str]]) -> None:
    texts = []
    for display, local, domain in wanted:
        quoted = display.replace("\\", "\\\\").replace('"', '\\"')
        texts.append(f'"{quoted}" <{local}@{domain}.example>')
    found = parse_addresses(", ".join(texts).encode())
    assert found == [
        box(display.encode() or None, local.encode(), f"{domain}.example".encode())
        for display, local, domain in wanted
    ]


OPINION = {
    8, 9, 10, 11, 14, 22, 56,  # comments beside a name become part of the name there
    13,  # an obsolete route stays in the address there
    33, 34, 35, 36,  # mailboxes beside groups are put into nameless groups there
    55,  # words behind the angle bracket become the name there
}  # fmt: skip


@pytest.mark.skipif(
    "POSTROAD_SHARED" not in os.environ,
    reason="POSTROAD_SHARED is not set: it holds mail-parser's field vectors",
)
def test_the_vectors_of_mail_parser() -> None:
    """Source: stalwartlabs/mail-parser (Apache-2.0 or MIT), address.json."""
    file = Path(os.environ["POSTROAD_SHARED"], "conformance/mime/mail-parser/fields/address.json")
    cases = json.loads(file.read_text())
    assert len(cases) == 60

    def shown(item: MailboxAddress) -> dict[str, str | None]:
        address = decode_words(item.local) + ("@" + decode_words(item.domain)) * bool(item.domain)
        name = None if item.display is None else decode_words(item.display)
        return {"name": name, "address": address or None}

    for number, case in enumerate(cases):
        if number in OPINION:
            continue
        first = re.match(rb"[^\n]*(?:\n[ \t][^\n]*)*", case["header"].encode())
        assert first is not None
        found = [
            {"name": decode_words(item.name) or None, "addresses": [shown(m) for m in item.members]}
            if isinstance(item, Group)
            else shown(item)
            for item in parse_addresses(unfold(first[0]))
        ]
        expected = case["expected"]
        wanted = (expected.get("List") or expected.get("Group") or []) if expected else []
        assert found == wanted, number
