"""Addresses and replies as strangers write them: what reaches a screen steers nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mail.address import parse_address
from postroad.mail.reply import Reply

STEERING = ["\x1b[2J", "\x9b2J", "\x7f", "\x08", "\u202e", "\u2066", "\u2028", "\x85", "\0", "\r\n"]


@pytest.mark.parametrize("sign", STEERING)
@pytest.mark.parametrize("where", ["a{}b@c.example", '"a{}b"@c.example', "a@c{}d.example"])
def test_addresses_hold_no_control_characters(where: str, sign: str) -> None:
    with pytest.raises(ValueError):
        parse_address(where.format(sign))


def test_addresses_of_all_scripts_pass() -> None:
    for text in ("jösé@b.example", "用户@例え.example", "δοκιμή@b.example", "प्रयोग@b.example"):
        assert str(parse_address(text)) == text


@given(st.lists(st.text(st.sampled_from("".join(STEERING) + "ab é")), max_size=4))
def test_a_peers_words_are_neutral(texts: list[str]) -> None:
    reply = Reply.parse(550, tuple(texts))
    assert str(reply).isprintable()
