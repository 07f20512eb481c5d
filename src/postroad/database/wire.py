"""Frames between workers and the store process: MessagePack behind a length.

A frame carries everything of one turn of the sender's loop. From a worker: calls, each an id and
its operations. To a worker: notices, then answers, in the order of the commits.
Knows no operation: the store process hands in a decoder for those it serves. Both ends are ours
and of one version (`Hello`); still no frame is longer than `FRAME_OCTETS_MAX`.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec

from postroad.database.contract import Notice, Operation
from postroad.mail.errors import Fault, StateError, Unavailable

VERSION = 1
FRAME_OCTETS_MAX = 64 << 20
"""Hundreds of units with headers of a megabyte each; what is longer is no frame of ours."""
SOCKET_PATH = "run/store.sock"
_PATH_OCTETS_MAX = 100
"""The kernel takes 107 (unix(7)); longer ones go through a descriptor of the directory."""
_LENGTH = struct.Struct(">I")


@contextmanager
def socket_address(data_dir: Path) -> Iterator[str]:
    """The path of the store process's socket, of any length, as bind and connect take it.

    Raises: OSError when its directory is not there and the path is long.
    """
    path = data_dir / SOCKET_PATH
    if len(os.fsencode(path)) <= _PATH_OCTETS_MAX:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class Kind(IntEnum):
    """How a unit ended."""

    DONE = 0
    REFUSED = 1
    """StateError: body is [fault, text]."""
    UNAVAILABLE = 2
    """body is the text."""
    BUG = 3
    """body is the text."""


class Hello(msgspec.Struct, frozen=True):
    """The first frame to a worker."""

    version: int
    process: int


class Call(msgspec.Struct, frozen=True, array_like=True):
    number: int
    operations: tuple[Any, ...]


class Answer(msgspec.Struct, frozen=True, array_like=True):
    number: int
    kind: int
    body: Any


class ReceivedAnswer(msgspec.Struct, frozen=True, array_like=True):
    number: int
    kind: int
    body: msgspec.Raw


class Received(msgspec.Struct, frozen=True, array_like=True):
    """A frame to a worker, results still encoded."""

    notices: list[Notice]
    answers: list[ReceivedAnswer]


class WireError(Exception):
    """The other end sent what is no frame."""


_encoder = msgspec.msgpack.Encoder()
received_decoder = msgspec.msgpack.Decoder(Received)
hello_decoder = msgspec.msgpack.Decoder(Hello)
_results_decoder = msgspec.msgpack.Decoder(list[msgspec.Raw])
_refused_decoder = msgspec.msgpack.Decoder(tuple[str, str])
_text_decoder = msgspec.msgpack.Decoder(str)
_result_decoders: dict[type[Operation[Any]], msgspec.msgpack.Decoder[Any] | None] = {}


def frame(value: object) -> bytes:
    """Raises: WireError when it is too long."""
    octets = bytearray(4)
    _encoder.encode_into(value, octets, 4)
    if len(octets) - 4 > FRAME_OCTETS_MAX:
        raise WireError(f"a frame of {len(octets)} octets is too long")
    _LENGTH.pack_into(octets, 0, len(octets) - 4)
    return bytes(octets)


class Frames:
    """Cuts what arrives into frames."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        """The frames that are now complete. Raises: WireError."""
        buffer = self._buffer
        buffer += data
        found: list[bytes] = []
        at = 0
        while len(buffer) - at >= 4:
            (octets,) = _LENGTH.unpack_from(buffer, at)
            if octets > FRAME_OCTETS_MAX:
                raise WireError(f"a frame of {octets} octets is too long")
            if len(buffer) - at - 4 < octets:
                break
            found.append(bytes(memoryview(buffer)[at + 4 : at + 4 + octets]))
            at += 4 + octets
        if at:
            del buffer[:at]
        return found


def answer_of(number: int, results: list[Any], error: BaseException | None) -> Answer:
    """How a settled unit is told to the worker that asked for it."""
    match error:
        case None:
            return Answer(number, Kind.DONE, results)
        case StateError():
            return Answer(number, Kind.REFUSED, (error.fault.value, error.text))
        case Unavailable():
            return Answer(number, Kind.UNAVAILABLE, error.what)
        case _:
            return Answer(number, Kind.BUG, f"{type(error).__name__}: {error}")


def error_of(answer: ReceivedAnswer) -> BaseException:
    """The error that an answer carries, as the operation raised it; a bug stays a bug."""
    match answer.kind:
        case Kind.REFUSED:
            fault, text = _refused_decoder.decode(answer.body)
            return StateError(Fault(fault), text)
        case Kind.UNAVAILABLE:
            return Unavailable(_text_decoder.decode(answer.body))
        case _:
            return AssertionError(_text_decoder.decode(answer.body))


def results_of(answer: ReceivedAnswer, operations: tuple[Operation[Any], ...]) -> list[Any]:
    """The results, each of its operation's `Result` type."""
    raw = _results_decoder.decode(answer.body)
    return [_result(operation, body) for operation, body in zip(operations, raw, strict=True)]


def _result(operation: Operation[Any], body: msgspec.Raw) -> Any:
    kind = type(operation)
    try:
        decoder = _result_decoders[kind]
    except KeyError:
        decoder = None if kind.Result is None else msgspec.msgpack.Decoder(kind.Result)
        _result_decoders[kind] = decoder
    return None if decoder is None else decoder.decode(body)
