"""The texts in other languages (RFC 5255 §3.2), and which language a range means (RFC 4647)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from postroad.service import imapd
from postroad.service.imapd import languages
from postroad.service.imapd.answers import Answer
from postroad.service.imapd.languages import LANGUAGES, choose, translate

SOURCE = Path(imapd.__file__).parent


def said() -> set[str]:
    """Texts that answers are made of, as far as they are literals. BAD is told in English."""
    found: set[str] = set()
    for path in SOURCE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("Answer", "no") or not node.args:
                continue
            constants = [value.value for value in ast.walk(node) if isinstance(value, ast.Constant)]
            if b"BAD" in constants:
                continue
            text = node.args[0]
            choices = [text.body, text.orelse] if isinstance(text, ast.IfExp) else [text]
            found |= {
                choice.value
                for choice in choices
                if isinstance(choice, ast.Constant) and isinstance(choice.value, str)
            }
    return found - {""}


def test_what_is_said_is_said_in_every_language() -> None:
    """A text may be new, and its translation come later; most are there."""
    texts = said()
    assert len(texts) > 50
    missing = {text for text in texts if translate(text, "de") == text}
    assert len(missing) <= len(texts) // 20, sorted(missing)


def test_translations_are_whole() -> None:
    for text, translated in languages._TEXTS.items():
        assert len(translated) == 3
        for other in (text, *translated):
            assert other
            assert not other.startswith("[")
            assert other.isprintable()
            assert other == other.strip()
        assert text.isascii(), "i-default is ASCII"


def test_the_first_letter_may_be_small() -> None:
    """The store says it so."""
    assert translate("the value is too long", "de") == "Der Wert ist zu lang"
    assert translate("never heard of", "de") == "never heard of"
    assert translate("Done", "en") == "Done"


@pytest.mark.parametrize(
    ("ranges", "language"),
    [
        (["de"], "de"), (["DE-at-1996"], "de"), (["xx", "fr-CA"], "fr"), (["xx"], None),
        (["de-x-private"], "de"), (["default", "de"], "i-default"), (["*"], "i-default"),
        (["I-Default"], "i-default"), (["x-klingon"], None), ([""], None), (["en-GB", "de"], "en"),
        (["-"], None), (["deutsch"], None),
    ],
)  # fmt: skip
def test_ranges(ranges: list[str], language: str | None) -> None:
    assert choose(ranges) == language
    assert language in (None, "i-default", *LANGUAGES)


def test_only_a_client_that_asked_gets_more_than_ascii() -> None:
    assert Answer("Gr\u00fcn").render(b"a") == b"a OK Gr?n\r\n"
    assert Answer("Gr\u00fcn").render(b"a", utf8=True) == "a OK Gr\u00fcn\r\n".encode()
    assert Answer("Deleted").render(b"a", "de") == "a OK Gel\u00f6scht\r\n".encode()
