"""Transfer encodings undone piece by piece: the pieces change nothing."""

from __future__ import annotations

import base64
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.message.transfer import HELD_OCTETS_MAX, decoder


def undo(encoding: bytes, pieces: list[bytes]) -> bytes:
    found = decoder(encoding)
    assert found is not None
    return b"".join([*(found.feed(piece) for piece in pieces), found.finish()])


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(octets) + 1) for place in places})
    return [octets[a:b] for a, b in zip([0, *ends], [*ends, len(octets)], strict=True)]


_places = st.lists(st.integers(0, 1 << 20), max_size=8)


@given(st.binary(max_size=300), _places)
def test_base64_gives_back_what_was_encoded(octets: bytes, places: list[int]) -> None:
    lines = base64.encodebytes(octets).replace(b"\n", b"\r\n")
    assert undo(b"base64", cut(lines, places)) == octets


@given(st.binary(max_size=300), _places)
def test_quoted_printable_gives_back_what_was_encoded(octets: bytes, places: list[int]) -> None:
    encoded = quopri.encodestring(octets, quotetabs=True)
    assert undo(b"quoted-printable", cut(encoded, places)) == octets


_DIRT = (
    b"QQ", b"=", b"==", b"\r\n", b" ", b"\t", b"=3D", b"=\r\n", b"\xc3\xa9", b"\0", b"Zz9/+", b"=4",
)  # fmt: skip
_dirt = st.lists(st.sampled_from(_DIRT), max_size=30).map(b"".join)


@pytest.mark.parametrize("encoding", [b"base64", b"quoted-printable", b"8bit", b""])
@given(_dirt, _places)
def test_any_octets_however_cut_give_the_same(
    encoding: bytes, octets: bytes, places: list[int]
) -> None:
    assert undo(encoding, cut(octets, places)) == undo(encoding, [octets])


def test_white_space_at_line_ends_goes() -> None:
    assert undo(b"quoted-printable", [b"a  \r\nb \t", b" \r\nc  "]) == b"a\r\nb\r\nc"
    assert undo(b"quoted-printable", [b"a =  ", b"\r\nb"]) == b"a b"


def test_octets_behind_padding_are_none() -> None:
    assert undo(b"base64", [b"QQ==", b"QQ=="]) == b"A"


@pytest.mark.parametrize("filler", [b"x", b" ", b"=41"])
def test_a_line_without_end_is_not_held(filler: bytes) -> None:
    found = decoder(b"quoted-printable")
    assert found is not None
    piece = filler * (HELD_OCTETS_MAX // len(filler))
    out = sum(len(found.feed(piece)) for _ in range(8)) + len(found.finish())
    expected = 8 * len(piece) // (3 if filler == b"=41" else 1)
    if filler == b" ":
        assert 6 * len(piece) <= out <= expected
    else:
        assert out == expected
    assert len(found._held) == 0  # type: ignore[attr-defined]  # what it keeps is the question


def test_unknown_encodings_are_not_guessed() -> None:
    assert decoder(b"x-uuencode") is None
