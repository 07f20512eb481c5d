"""Canonical bodies and fields: the RFC's examples, a slow reference, and slice borders."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.mailauth import canonical
from postroad.mailauth.canonical import Canon, canonical_body, canonical_field, hash_body
from postroad.mailauth.fields import raw_fields, split_header

BODY = st.one_of(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b" ", b"\t", b"a", b"bc"]), max_size=40),
    st.lists(st.sampled_from([b"\r\n", b" ", b"a"]), max_size=40),
).map(b"".join)


def reference(body: bytes, canon: Canon) -> bytes:
    """RFC 6376 §3.4.3, §3.4.4 as they read, by regular expressions over all of it."""
    if canon is Canon.RELAXED:
        body = re.sub(rb"[ \t]+", b" ", body)
        body = re.sub(rb" (?=\r\n|\Z)", b"", body)
    end = len(body)
    while end >= 2 and body[end - 2 : end] == b"\r\n":
        end -= 2
    body = body[:end]
    return body + b"\r\n" if body or canon is Canon.SIMPLE else b""


@pytest.mark.parametrize("canon", list(Canon))
@given(body=BODY)
def test_bodies_match_the_reference(canon: Canon, body: bytes) -> None:
    assert canonical_body(body, canon) == reference(body, canon)


@pytest.mark.parametrize("canon", list(Canon))
@given(body=BODY, slice_octets=st.integers(2, 9))
def test_slice_borders_change_nothing(canon: Canon, body: bytes, slice_octets: int) -> None:
    whole = canonical.SLICE_OCTETS
    canonical.SLICE_OCTETS = slice_octets
    try:
        assert canonical_body(body, canon) == reference(body, canon)
    finally:
        canonical.SLICE_OCTETS = whole


@given(BODY)
def test_canonical_form_is_a_fixed_point(body: bytes) -> None:
    relaxed = canonical_body(body, Canon.RELAXED)
    assert canonical_body(relaxed, Canon.RELAXED) == relaxed
    assert canonical_body(canonical_body(body, Canon.SIMPLE), Canon.RELAXED) == relaxed


@pytest.mark.parametrize("canon", list(Canon))
@given(body=BODY, limits=st.sets(st.one_of(st.none(), st.integers(0, 60)), min_size=1))
def test_lengths_hash_the_front(canon: Canon, body: bytes, limits: set[int | None]) -> None:
    octets = reference(body, canon)
    found = hash_body(body, canon, limits)
    assert set(found) == limits
    for limit, item in found.items():
        assert item.digest == hashlib.sha256(octets[:limit]).digest()
        assert item.length == len(octets)


def test_the_rfc_s_examples() -> None:
    """RFC 6376 §3.4.5."""
    header, body_at = split_header(b"A: X\r\nB : Y\t\r\n\tZ  \r\n\r\n C \r\nD \t E\r\n\r\n\r\n")
    fields = raw_fields(header)
    assert [canonical_field(field.raw, Canon.RELAXED) for field in fields] == [b"a:X", b"b:Y Z"]
    assert [canonical_field(field.raw, Canon.SIMPLE) for field in fields] == [
        b"A: X",
        b"B : Y\t\r\n\tZ  ",
    ]
    body = b" C \r\nD \t E\r\n\r\n\r\n"
    assert body_at == 22
    assert canonical_body(body, Canon.RELAXED) == b" C\r\nD E\r\n"
    assert canonical_body(body, Canon.SIMPLE) == b" C \r\nD \t E\r\n"
    empty = hash_body(b"", Canon.RELAXED)[None].digest
    assert empty == hashlib.sha256(b"").digest()
    assert hash_body(b"", Canon.SIMPLE)[None].digest == hashlib.sha256(b"\r\n").digest()


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n" * 400_000,
        b"a" + b"\r\n" * 400_000 + b"b\r\n",
        b" " * 800_000,
        b"\t \r\n" * 200_000,
        b"\r" * 800_000,
        b"\n" * 800_000 + b"\r\n",
        b"\r\n\n" * 260_000,
        b" \r" * 400_000,
    ],
)
def test_hostile_bodies_cost_little(body: bytes) -> None:
    """Each would take minutes with backtracking or with a buffer that grows by copying."""
    for canon in Canon:
        assert canonical_body(body, canon) == reference(body, canon)


@given(st.binary(max_size=200))
def test_headers_are_cut_and_nothing_is_lost(octets: bytes) -> None:
    header, body_at = split_header(octets)
    assert octets.startswith(header) or header == b""
    fields = raw_fields(header)
    assert b"\r\n".join(field.raw for field in fields) == header.removesuffix(b"\r\n")
    assert body_at <= max(len(octets), 2)


@pytest.mark.parametrize("size", [10, 8190, 8192, 65_530, 70_000])
def test_the_body_begins_behind_the_empty_line(size: int) -> None:
    header = b"X: " + b"y" * size + b"\r\n"
    found, body_at = split_header(memoryview(header + b"\r\nbody"))
    assert found == header
    assert (header + b"\r\nbody")[body_at:] == b"body"
