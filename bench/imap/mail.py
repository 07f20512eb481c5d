"""Messages that look like real ones, the same on every run.

Sizes, threads, addresses and words are spread as in a person's mailbox: a few correspondents write
most, a third are replies, a third have an HTML part, one in twelve an attachment. Three words are
there to be searched: one in a third of the messages, one in a thousandth, one in none.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

FREQUENT = "quarterly"
RARE = "quetzalcoatl"
ABSENT = "xylophonically"
RARE_SUBJECT = "Zanzibar"
RARE_SENDER = "ottilie"


def _words(text: str) -> list[str]:
    return text.split()


_FIRST = _words(
    "anna ben carla david elena felix greta hugo ines jonas karin lars maria nils olga paul quirin "
    "rosa stefan tina ulrich vera walter xenia yann zoe"
)
_LAST = _words("smith meyer garcia rossi dubois novak jensen kowalski silva tanaka")
_HOSTS = _words("example.org mail.example.net corp.example lists.example shop.example")
_SYLLABLES = _words("ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu ta le mi no ru")
_TOPICS = _words(
    "Invoice Meeting Report Question Proposal Holiday Schedule Release Contract Newsletter Order "
    "Ticket Agenda Minutes Review Photos Travel Backup Update Reminder"
)
_BEGAN = datetime(2022, 1, 3, 8, 0, tzinfo=UTC)


class Generator:
    """`message(n)` in ascending order of n; what a reply answers is remembered, bounded."""

    def __init__(self, seed: int = 5) -> None:
        self._random = random.Random(seed)
        words = {"".join(self._random.choices(_SYLLABLES, k=2 + n % 3)) for n in range(4000)}
        self._words = sorted(words)
        self._weights = [1 / (rank + 3) for rank in range(len(self._words))]
        self._people = [
            (f"{first}.{last}@{host}", f"{first.title()} {last.title()}")
            for first in _FIRST
            for last, host in zip(_LAST, _HOSTS * 2, strict=True)
        ]
        self._random.shuffle(self._people)
        self._recent: list[tuple[str, str, str]] = []

    def _text(self, count: int) -> list[str]:
        return self._random.choices(self._words, self._weights, k=count)

    def _person(self) -> tuple[str, str]:
        rank = min(int(self._random.expovariate(0.03)), len(self._people) - 1)
        return self._people[rank]

    def message(self, number: int) -> bytes:
        dice = self._random
        address, name = self._person()
        if number % 997 == 5:
            address, name = f"{RARE_SENDER}@rare.example", "Ottilie Übermaß"
        subject, references = self._thread(number)
        identity = f"<{number}.{dice.getrandbits(40):x}@{address.partition('@')[2]}>"
        head = self._head(number, address, name, subject, identity, references)
        self._recent.append((subject, identity, references))
        del self._recent[:-50]
        return head + self._body(number)

    def _thread(self, number: int) -> tuple[str, str]:
        dice = self._random
        if self._recent and dice.random() < 0.35:
            subject, parent, references = dice.choice(self._recent)
            subject = subject if subject.startswith("Re: ") else f"Re: {subject}"
            return subject, f"{references} {parent}".strip()[-900:].lstrip()
        subject = f"{dice.choice(_TOPICS)} {' '.join(self._text(dice.randint(1, 5)))}"
        if number % 1009 == 7:
            subject += f" {RARE_SUBJECT}"
        return subject, ""

    def _head(
        self, number: int, address: str, name: str, subject: str, identity: str, references: str
    ) -> bytes:
        dice = self._random
        moment = _BEGAN + timedelta(minutes=11 * number + dice.randint(0, 10))
        shown = name
        if not name.isascii():
            shown = f"=?utf-8?B?{base64.b64encode(name.encode()).decode()}?="
        if number % 17 == 3:
            encoded = base64.b64encode(f"{subject} ä".encode()).decode()
            subject = f"=?utf-8?B?{encoded}?=" if len(encoded) < 60 else subject
        fields = [
            f"Return-Path: <{address}>",
            *(
                f"Received: from relay{hop}.{address.partition('@')[2]} (198.51.100.{hop})\r\n"
                f"\tby mx{hop}.x.example with ESMTPS id {dice.getrandbits(60):x};\r\n"
                f"\t{format_datetime(moment)}"
                for hop in range(1, dice.randint(2, 5))
            ),
            "Authentication-Results: mx.x.example; spf=pass; dkim=pass; dmarc=pass",
            f"DKIM-Signature: v=1; a=rsa-sha256; d={address.partition('@')[2]}; s=sel;\r\n"
            f"\tb={base64.b64encode(dice.randbytes(180)).decode()}",
            f"From: {shown} <{address}>",
            "To: U Zero <u0@x.example>",
            f"Subject: {subject}",
            f"Date: {format_datetime(moment)}",
            f"Message-ID: {identity}",
        ]
        if dice.random() < 0.3:
            copies = [self._person() for _ in range(dice.randint(1, 4))]
            fields.append("Cc: " + ",\r\n\t".join(f"{who} <{at}>" for at, who in copies))
        if references:
            parts = references.split()
            fields.append(f"In-Reply-To: {parts[-1]}")
            fields.append("References: " + "\r\n\t".join(parts))
        if dice.random() < 0.25:
            fields.append("List-Id: <announce.lists.example>\r\nPrecedence: list")
        fields.append("MIME-Version: 1.0")
        return "\r\n".join(fields).encode() + b"\r\n"

    def _body(self, number: int) -> bytes:
        dice = self._random
        words = self._text(min(40 + int(dice.expovariate(1 / 150)), 1500))
        if dice.random() < 0.33:
            words[dice.randrange(len(words))] = FREQUENT
        if number % 1000 == 11:
            words[len(words) // 2] = RARE
        lines = [" ".join(words[at : at + 11]) for at in range(0, len(words), 11)]
        plain = "\r\n".join(lines).encode() + b"\r\n"
        kind = dice.random()
        if kind < 0.55:
            return b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + plain
        border = f"=_{number}"
        html = b"<html><body><p>" + b"<br>\r\n".join(plain.split(b"\r\n")) + b"</p></body></html>"
        parts = [
            b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + plain,
            b"Content-Type: text/html; charset=utf-8\r\n"
            b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + html.replace(b"=", b"=3D"),
        ]
        alternative = _multipart("alternative", border, parts)
        if kind < 0.92:
            return alternative
        octets = base64.encodebytes(dice.randbytes(dice.randint(2000, 12000)))
        attachment = (
            f'Content-Type: application/pdf; name="file{number}.pdf"\r\n'
            "Content-Transfer-Encoding: base64\r\n"
            f'Content-Disposition: attachment; filename="file{number}.pdf"\r\n\r\n'
        ).encode() + octets.replace(b"\n", b"\r\n")
        return _multipart("mixed", border + "m", [alternative, attachment])


def _multipart(subtype: str, border: str, parts: list[bytes]) -> bytes:
    head = f'Content-Type: multipart/{subtype}; boundary="{border}"\r\n\r\n'.encode()
    line = b"--" + border.encode()
    return head + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def messages(count: int) -> Iterator[bytes]:
    generator = Generator()
    for number in range(count):
        yield generator.message(number)
