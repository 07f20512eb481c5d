"""SPF macro strings: parsed once, expanded for each message.

Input: hostile text.
Source: RFC 7208 §7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import quote

from postroad.dns.names import NAME_OCTETS_MAX

PARTS_MAX = 128
"""RFC 7208 §7.3 asks for 127: no name has more labels, so more parts mean all."""

_TOKEN = re.compile(
    r"%\{([slodiphcrtvSLODIPHCRTV])([0-9]*)([rR]?)([.\-+,/_=]*)\}|(%[%_\-])|([\x21-\x24\x26-\x7e]+)"
)
_EXPLAIN_TOKEN = re.compile(_TOKEN.pattern.replace(r"\x21", r"\x20"))
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?\Z")
_ESCAPES = {"%%": "%", "%_": " ", "%-": "%20"}
_EXPLAIN_ONLY = frozenset("crt")


@dataclass(frozen=True, slots=True)
class Macro:
    """letter: lower case. parts: right-hand parts to keep, 0 for all. delimiters: to split at."""

    letter: str
    parts: int
    reverse: bool
    delimiters: str
    escape: bool


MacroString: TypeAlias = tuple[str | Macro, ...]


def parse_macro_string(text: str, *, explain: bool = False) -> MacroString:
    """The parts of a macro-string (of an explain-string, with spaces and %{c}, %{r}, %{t}).

    Raises: ValueError.
    """
    out: list[str | Macro] = []
    at = 0
    token = _EXPLAIN_TOKEN if explain else _TOKEN
    while at < len(text):
        match = token.match(text, at)
        if match is None:
            raise ValueError(f"a bad macro or character at {text[at : at + 20]!r}")
        letter, digits, reverse, delimiters, escape, literal = match.groups()
        if letter:
            out.append(_macro(letter, digits, bool(reverse), delimiters, explain))
        else:
            out.append(_ESCAPES[escape] if escape else literal)
        at = match.end()
    return tuple(out)


def _macro(letter: str, digits: str, reverse: bool, delimiters: str, explain: bool) -> Macro:
    if not explain and letter.lower() in _EXPLAIN_ONLY:
        raise ValueError(f"the macro {letter!r} is for explanations only")
    parts = min(int(digits[-9:]), PARTS_MAX) if digits.strip("0") else 0
    if digits and not parts:
        raise ValueError("a macro keeps no parts")
    return Macro(letter.lower(), parts, reverse, delimiters or ".", letter.isupper())


def parse_domain_spec(text: str) -> MacroString:
    """The parts of a domain-spec: it ends in a top-level label or in a macro.

    Raises: ValueError.
    Source: RFC 7208 §7.1, domain-end.
    """
    parts = parse_macro_string(text)
    if not text.endswith(("%%", "%_", "%-")) and not (parts and isinstance(parts[-1], Macro)):
        _, dot, label = text.removesuffix(".").rpartition(".")
        if not dot or _LABEL.match(label) is None or label.isdigit():
            raise ValueError(f"{text[:80]!r} is no domain")
    return parts


def letters(parts: MacroString) -> set[str]:
    """The macro letters that the string uses."""
    return {part.letter for part in parts if isinstance(part, Macro)}


def expand(parts: MacroString, values: Mapping[str, str]) -> str:
    """The string with its macros replaced. values: by letter, all that are used."""
    return "".join(
        part if isinstance(part, str) else _expand_one(part, values[part.letter]) for part in parts
    )


def _expand_one(macro: Macro, value: str) -> str:
    if macro.reverse or macro.parts or macro.delimiters != ".":
        pieces: Sequence[str] = re.split(f"[{re.escape(macro.delimiters)}]", value)
        if macro.reverse:
            pieces = pieces[::-1]
        if macro.parts:
            pieces = pieces[-macro.parts :]
        value = ".".join(pieces)
    return quote(value, safe="-._~") if macro.escape else value


def as_name(text: str) -> str:
    """The expansion as a name to look up: labels cut off at the left until it fits.

    Source: RFC 7208 §7.3.
    """
    text = text.removesuffix(".")
    if len(text) > NAME_OCTETS_MAX:
        cut = text.find(".", len(text) - NAME_OCTETS_MAX - 1)
        text = text[cut + 1 :] if cut >= 0 else text[-NAME_OCTETS_MAX:]
    return text.lower()
