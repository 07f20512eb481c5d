"""How alike two words are: the same, of one stem, one the beginning of the other, mistyped.

Words are folded and without marks, as `words_of` gives them. Stems are those of the languages
most mail is written in; a word may be of any of them, so they are tried together.
Source: https://snowballstem.org/algorithms/.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Protocol

_LANGUAGES: dict[str, tuple[str, ...]] = {
    "LATIN": (
        "english",
        "german",
        "french",
        "spanish",
        "italian",
        "portuguese",
        "dutch",
        "swedish",
    ),
    "CYRILLIC": ("russian", "serbian"),
    "GREEK": ("greek",),
    "ARABIC": ("arabic", "persian"),
    "DEVANAGARI": ("hindi", "nepali"),
    "ARMENIAN": ("armenian",),
    "HEBREW": ("yiddish",),
    "TAMIL": ("tamil",),
}
"""By script, as Unicode names it."""
SAME, STEM, BEGINNING, MISTYPED = 1.0, 0.7, 0.4, 0.3
"""What a likeness counts."""
STEMMED_MIN = 4
"""Characters of a word that is stemmed; shorter ones only match themselves."""
MISTYPED_MIN = 4
WORD_MAX = 64
"""Characters of a word that are looked at."""
_WORD = re.compile(r"[^\W_]+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Scripts that put no space between words: Thai, Lao, Burmese, Khmer, kana, Han."""


def without_marks(folded: str) -> str:
    """Decomposed text without its accents."""
    if folded.isascii():
        return folded
    return "".join([char for char in folded if not unicodedata.combining(char)])


def words_of(folded: str) -> list[str]:
    """The words of what somebody looks for, each once."""
    return list(dict.fromkeys(_WORD.findall(without_marks(folded))))


def is_unspaced(word: str) -> bool:
    """Whether the word may stand within a longer run of letters."""
    return _UNSPACED.search(word) is not None


class Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # its name there


@lru_cache(maxsize=8192)
def stems(word: str) -> tuple[str, ...]:
    """The stem in each language of its script, in one order; () for a word that has none."""
    if not STEMMED_MIN <= len(word) <= WORD_MAX or not word.isalpha():
        return ()
    script = unicodedata.name(word[0], "").partition(" ")[0]
    return tuple([stemmer.stemWord(word) for stemmer in _stemmers(script)])


@lru_cache
def _stemmers(script: str) -> tuple[Stemmer, ...]:
    """Loaded when somebody first ranks: a quarter of a second and 14 MB, for few processes."""
    import snowballstemmer

    return tuple([snowballstemmer.stemmer(name) for name in _LANGUAGES.get(script, ())])


def beginning(word: str) -> str:
    """What every word that is alike (mistyped ones apart) begins with."""
    known = stems(word)
    size = len(word)
    while not all(stem.startswith(word[:size]) for stem in known):
        size -= 1
    return word[: max(size, 3)]


def likeness(word: str, other: str) -> float:
    """How alike `other`, found in a text, is to the word that is looked for; 0: not at all."""
    if other == word:
        return SAME
    if any(map(str.__eq__, stems(word), stems(other))):
        return STEM
    return BEGINNING if other.startswith(word) else 0.0


def is_mistyped(word: str, other: str) -> bool:
    """Whether one letter more, less, other, or exchanged with its neighbour makes them equal."""
    short, long = sorted((word, other), key=len)
    if len(long) - len(short) > 1 or short == long:
        return False
    at = 0
    while at < len(short) and short[at] == long[at]:
        at += 1
    if len(short) < len(long):
        return short[at:] == long[at + 1 :]
    if short[at + 1 :] == long[at + 1 :]:
        return True
    swapped = short[at : at + 2][::-1]
    return len(swapped) == 2 and swapped == long[at : at + 2] and short[at + 2 :] == long[at + 2 :]
