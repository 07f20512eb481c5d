"""SASLprep: names and passwords that look alike become the same octets.

Source: RFC 4013 §2, RFC 3454 §6 (bidirectional text).
Departs: code points that Unicode 3.2 did not know are let through (RFC 4013 §2.5 would refuse to
store them), since people do put newer characters into passwords; they are kept as they are.
"""

from __future__ import annotations

import stringprep
from unicodedata import ucd_3_2_0

_PROHIBITED = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The prepared form of `text`.

    Raises: ValueError for a prohibited character (controls, mostly) or broken bidirectional text.
    """
    if text.isascii():
        if not text.isprintable():
            raise ValueError("control characters are not allowed")
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in text
        if not stringprep.in_table_b1(char)
    )
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    for char in prepared:
        if any(table(char) for table in _PROHIBITED):
            raise ValueError(f"the character U+{ord(char):04X} is not allowed")
    _check_bidi(prepared)
    return prepared


def _check_bidi(text: str) -> None:
    if not any(stringprep.in_table_d1(char) for char in text):
        return
    if any(stringprep.in_table_d2(char) for char in text):
        raise ValueError("right-to-left and left-to-right characters are mixed")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise ValueError("right-to-left text must begin and end with such a character")
