"""What one mail transaction has gathered so far."""

from __future__ import annotations

from dataclasses import dataclass, field

from postroad.directory.values import Resolution
from postroad.mail.address import Address
from postroad.mail.envelope import Envelope, Recipient
from postroad.mail.reply import Reply
from postroad.protocol.smtp.commands import Mail
from postroad.store.contract import Draft


@dataclass(slots=True)
class Transaction:
    """One mail transaction, from MAIL on.

    tried: how many recipients were named, taken or not. refusal: decided while octets still came;
    the rest is read over and then it is answered.
    """

    mail: Mail
    recipients: list[Recipient] = field(default_factory=list)
    resolved: dict[Address, Resolution] = field(default_factory=dict)
    draft: Draft | None = None
    tried: int = 0
    size: int = 0
    refusal: Reply | None = None

    def envelope(self) -> Envelope:
        return Envelope(
            reverse_path=self.mail.reverse_path,
            recipients=tuple(self.recipients),
            body=self.mail.body,
            smtputf8=self.mail.smtputf8,
            ret=self.mail.ret,
            envid=self.mail.envid,
        )
