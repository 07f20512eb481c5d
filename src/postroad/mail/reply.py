"""SMTP replies: a code, an enhanced status, lines of text that cannot contradict each other.

Source: RFC 5321 §4.2, RFC 2034 §4, RFC 3463 §2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\Z| )")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LINE_OCTETS_MAX = 512  # RFC 5321 §4.5.3.1.5, CRLF included


@dataclass(frozen=True, slots=True)
class Status:
    """An enhanced status code, `class.subject.detail` (RFC 3463 §2)."""

    klass: int
    subject: int
    detail: int

    def __post_init__(self) -> None:
        if self.klass not in (2, 4, 5):
            raise ValueError(f"status class {self.klass} is none of 2, 4, 5")
        if not (0 <= self.subject <= 999 and 0 <= self.detail <= 999):
            raise ValueError(f"status {self} is out of range")

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"

    @classmethod
    def parse(cls, text: str) -> Status:
        """Raises: ValueError when `text` is not exactly `class.subject.detail`."""
        match = _STATUS.match(text)
        if match is None or match.end() != len(text):
            raise ValueError(f"not an enhanced status code: {text!r}")
        return cls(int(match[1]), int(match[2]), int(match[3]))


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply, of one line or several.

    lines: text after the code and status, without CR, LF or NUL; at least one.
    """

    code: int
    status: Status | None
    lines: tuple[str, ...]

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599:
            raise ValueError(f"{self.code} is not an SMTP reply code")
        if self.status is not None and self.code // 100 != self.status.klass:  # RFC 2034 §4
            raise ValueError(f"{self.code} cannot carry class {self.status.klass}")
        if not self.lines:
            raise ValueError("a reply has at least one line")
        if any("\r" in line or "\n" in line or "\0" in line for line in self.lines):
            raise ValueError("a reply line cannot hold CR, LF or NUL")

    @classmethod
    def of(cls, code: int, status: str | None, *lines: str) -> Reply:
        """`Reply.of(550, "5.1.1", "No such user here")`."""
        return cls(code, Status.parse(status) if status else None, lines)

    @classmethod
    def parse(cls, code: int, texts: tuple[str, ...]) -> Reply:
        """A peer's reply from its code and line texts; the status is taken from the first line.

        A status whose class contradicts the code is left in the text (RFC 2034 §4). What would
        steer a terminal or turn the direction of writing becomes a space: these words end up in
        histories, reports and on an operator's screen.
        """
        lines = []
        status: Status | None = None
        for number, text in enumerate(texts):
            clean = _CONTROL.sub(" ", text)
            match = _STATUS.match(clean)
            if match is not None and int(match[1]) == code // 100:
                found = Status(int(match[1]), int(match[2]), int(match[3]))
                if number == 0:
                    status = found
                if found == status:
                    clean = clean[match.end() :]
            lines.append(clean)
        return cls(code, status, tuple(lines) or ("",))

    @property
    def is_positive(self) -> bool:
        return self.code < 400

    @property
    def is_temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return self.code >= 500

    @property
    def text(self) -> str:
        """All lines in one, for people."""
        return " ".join(self.lines)

    def __str__(self) -> str:
        status = f"{self.status} " if self.status else ""
        return f"{self.code} {status}{self.text}"

    def render(self) -> bytes:
        """The reply's octets with CRLF; non-ASCII text becomes `?`, long lines are cut.

        Source: RFC 5321 §4.2.1 (multi-line replies), RFC 2034 §4 (status on every line).
        """
        status = f"{self.status} " if self.status else ""
        last = len(self.lines) - 1
        out = []
        for number, line in enumerate(self.lines):
            mark = " " if number == last else "-"
            octets = f"{self.code}{mark}{status}{line}".encode("ascii", "replace")
            out.append(octets[: _LINE_OCTETS_MAX - 2] + b"\r\n")
        return b"".join(out)
