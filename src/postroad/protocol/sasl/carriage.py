"""How SMTP, IMAP and POP3 carry SASL messages: base64 lines, `=` for an empty initial response.

Input: hostile octets without the line end. Cancelling (`*`) is looked for by the caller.
Source: RFC 4954 §4, RFC 4959 §3, RFC 5034 §4, RFC 4648 §4 (no foreign characters, padded).
"""

from __future__ import annotations

import binascii

from postroad.mail.errors import ProtocolError
from postroad.mail.limits import SASL_MESSAGE_OCTETS_MAX
from postroad.mail.reply import Reply

_MALFORMED = Reply.of(501, "5.5.2", "Cannot decode the base64")
_TOO_LONG = Reply.of(500, "5.5.6", "Authentication exchange line is too long")  # RFC 4954 §6


def decode_response(line: bytes) -> bytes:
    """One message of the client.

    Raises: ProtocolError (with the reply for SMTP) for anything but base64 of legal length.
    """
    if len(line) > SASL_MESSAGE_OCTETS_MAX:
        raise ProtocolError("SASL message too long", _TOO_LONG)
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error as error:
        raise ProtocolError(f"SASL message: {error}", _MALFORMED) from error


def decode_initial(argument: bytes | None) -> bytes | None:
    """An initial response as it stands on the command line; `=` is empty, None is absent.

    Raises: ProtocolError.
    """
    if argument is None:
        return None
    if argument == b"=":
        return b""
    return decode_response(argument)


def encode_challenge(octets: bytes) -> bytes:
    """The base64 text of a challenge, without line end."""
    return binascii.b2a_base64(octets, newline=False)
