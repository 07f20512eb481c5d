"""The dialog runner accepts the right server and no other."""

from __future__ import annotations

import pytest

from postroad.net.contract import Stream
from support.dialog import assert_wrong_server_fails, parse_dialog, run_dialog

DIALOG = r"""
# greeting, an answer of several lines, an octet escape
S: 220 one.example *
C: EHLO x
S: 250-one.example
S: ...
S: 250 SIZE *
C-raw: NO
C-raw: OP \x41\*\r\n
S: 250 A\*
C: QUIT
S: 221 *
S-end:
"""


async def right(stream: Stream) -> None:
    await stream.write(b"220 one.example ready\r\n")
    heard = b""
    while octets := await stream.read(1):
        heard += octets
        while b"\r\n" in heard:
            line, _, heard = heard.partition(b"\r\n")
            match line.split(b" "):
                case [b"EHLO", _]:
                    await stream.write(b"250-one.example\r\n250-PIPELINING\r\n250 SIZE 5\r\n")
                case [b"NOOP", text]:
                    await stream.write(b"250 " + text + b"\r\n")
                case [b"QUIT"]:
                    await stream.write(b"221 bye\r\n")
                    await stream.close()
                    return
    await stream.close()


def test_the_right_server_passes() -> None:
    run_dialog(DIALOG, right)


def test_a_wrong_server_fails() -> None:
    assert_wrong_server_fails(DIALOG)


@pytest.mark.parametrize(
    ("said", "expected", "word"),
    [
        (b"220 two.example\r\n", "S: 220 one.example\nS-end:", "220 two.example"),
        (b"220 one\r\n250 more\r\n", "S: 220 one\nS-end:", "250 more"),
        (b"220 one\r\n250 more\r\n", "S: 220 one", "more than the dialog knows"),
        (b"220 one", "S: 220 one", "within"),
        (b"", "S: 220 one", "closed"),
    ],
)
def test_what_differs_is_shown(said: bytes, expected: str, word: str) -> None:
    async def serve(stream: Stream) -> None:
        if said:
            await stream.write(said)
        await stream.close()

    with pytest.raises(AssertionError, match=word):
        run_dialog(expected, serve)


def test_what_the_handler_raises_is_raised() -> None:
    async def broken(stream: Stream) -> None:
        raise RuntimeError("a bug")

    with pytest.raises((AssertionError, RuntimeError)) as info:
        run_dialog("S: 220 *", broken)
    assert isinstance(info.value.__cause__ or info.value, RuntimeError)


def test_a_handler_that_leaves_its_stream_open_fails() -> None:
    async def careless(stream: Stream) -> None:
        await stream.write(b"220 x\r\n")

    with pytest.raises(AssertionError, match="without closing"):
        run_dialog("S: 220 x", careless)


def test_a_line_that_is_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_dialog("S: 220\nX: what")
    with pytest.raises(ValueError, match="nothing"):
        parse_dialog("C: NOOP")
