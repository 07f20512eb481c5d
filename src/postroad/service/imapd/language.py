"""LANGUAGE: in which language the server speaks to people.

Source: RFC 5255 §3.2, §3.3.
"""

from __future__ import annotations

from postroad.protocol.imap import render
from postroad.protocol.imap.commands import Language
from postroad.service.imapd.languages import DEFAULT, LANGUAGES, choose
from postroad.service.imapd.session import Answer, Session, no


async def language(session: Session, command: Language) -> Answer:
    """The change holds from the LANGUAGE response on; a failure changes nothing."""
    if not command.ranges:
        _tell(session, (*LANGUAGES, DEFAULT))
        return Answer("These languages are spoken")
    chosen = choose(words.decode("ascii", "replace") for words in command.ranges)
    if chosen is None:
        return no("This language is not spoken here")
    _tell(session, (chosen,))
    session.language = chosen
    return Answer("This language is spoken from now on")


def _tell(session: Session, tags: tuple[str, ...]) -> None:
    words = [render.astring(tag.encode("ascii")) for tag in tags]
    session.put(b"* LANGUAGE (%b)\r\n" % b" ".join(words))
