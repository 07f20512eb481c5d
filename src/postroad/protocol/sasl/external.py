"""EXTERNAL: the TLS client certificate says who it is; the message says at most as whom to act.

Source: RFC 4422 appendix A.
"""

from __future__ import annotations

from postroad.protocol.sasl.mechanism import (
    NAME_OCTETS_MAX,
    Challenge,
    Fault,
    IdentityClaim,
    Step,
)


class ExternalServer:
    def __init__(self) -> None:
        self._asked = False

    def respond(self, data: bytes | None) -> Step:
        if data is None and not self._asked:
            self._asked = True
            return Challenge(b"")
        octets = data or b""
        if len(octets) > NAME_OCTETS_MAX or b"\0" in octets:
            return Fault("EXTERNAL: malformed identity")
        try:
            return IdentityClaim(octets.decode())
        except UnicodeDecodeError:
            return Fault("EXTERNAL: not UTF-8")
