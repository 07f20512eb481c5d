"""Base subjects (RFC 5256 §2.1)."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.message.subject import base_subject

CASES = [
    ("", "", False),
    ("hello", "hello", False),
    ("  hello \t  world ", "hello world", False),
    ("Re: hello", "hello", True),
    ("RE:RE: re:hello", "hello", True),
    ("re : hello", "hello", True),
    ("Fw: hello", "hello", True),
    ("Fwd: hello", "hello", True),
    ("Re[2]: hello", "hello", True),
    ("Re [x] : hello", "hello", True),
    ("[list] Re: hello", "hello", True),
    ("[list] [other] Re: hello", "hello", True),
    ("Re: [list] hello", "hello", True),
    ("[list] hello", "hello", False),
    ("[a] [b]", "[b]", False),
    ("[a]", "[a]", False),
    ("Re: [a]", "[a]", True),
    ("Re:", "", True),
    ("hello (fwd)", "hello", True),
    ("hello (FWD) (fwd) ", "hello", True),
    ("(fwd)", "", True),
    ("[fwd: hello]", "hello", True),
    ("[Fwd: Re: [x] hello (fwd)]", "hello", True),
    ("[fwd: [fwd: hello]]", "hello", True),
    ("[fwd:]", "", True),
    ("[fwd: hello] more", "more", False),
    ("Refund: x", "Refund: x", False),
    ("re hello", "re hello", False),
    ("AW: hello", "AW: hello", False),
    ("[unclosed re: x", "[unclosed re: x", False),
    ("Re: Re: [t] Fwd: [u] Grüße", "Grüße", True),
]


@pytest.mark.parametrize(("subject", "base", "is_reply"), CASES)
def test_base_subject(subject: str, base: str, is_reply: bool) -> None:
    assert base_subject(subject) == (base, is_reply)


def _literally(text: str) -> str:
    """The seven steps word by word, however slowly."""
    text = re.sub(r"[ \t\r\n]+", " ", text)
    while True:
        while (cut := re.sub(r"(?:\(fwd\)| )\Z", "", text, flags=re.I | re.A)) != text:
            text = cut
        while True:
            before = text
            text = re.sub(
                r"\A(?:(?:\[[^\[\]]*\] *)*(?:re|fwd?) *(?:\[[^\[\]]*\] *)?:| )",
                "", text, flags=re.I | re.A,
            )  # fmt: skip
            if text == before:
                blob = re.match(r"\[[^\[\]]*\] *", text)
                if blob is not None and text[blob.end() :].strip(" "):
                    text = text[blob.end() :]
            if text == before:
                break
        if text[:5].lower() == "[fwd:" and text.endswith("]"):
            text = text[5:-1]
            continue
        return text


PIECES = ["re", "fw", "fwd", ":", "[", "]", " ", "(fwd)", "[fwd:", "x", "[a]", "\t", "Re:", "ß"]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_as_the_steps_say(text: str) -> None:
    assert base_subject(text)[0] == _literally(text)


@pytest.mark.parametrize(
    "hostile",
    ["re:" * 100_000, "[a]" * 100_000, "[" * 300_000, "[fwd:" * 60_000 + "]" * 60_000,
     "(fwd)" * 60_000, "re[" * 100_000, "[a]re" * 60_000, " " * 300_000 + "x"],
)  # fmt: skip
def test_hostile_subjects_take_linear_time(hostile: str) -> None:
    began = time.process_time()
    base_subject(hostile)
    assert time.process_time() - began < 1.0
