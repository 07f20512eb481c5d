"""Reading the directory. `directory.reading.MailDirectory` is it; writing goes through operations.

Point reads, on the loop: a change made anywhere is seen by the next read everywhere.
"""

from __future__ import annotations

from typing import Protocol

from postroad.directory.values import Account, Alias, Credentials, Domain, Resolution, SigningKey
from postroad.mail.address import Address


class Directory(Protocol):
    def domains(self) -> list[Domain]: ...

    def is_local(self, domain: str) -> bool:
        """domain: any spelling."""
        ...

    def accounts(self, domain: str | None = None) -> list[Account]: ...

    def account(self, login: str) -> Account | None:
        """By login name (an address in any case)."""
        ...

    def account_by_id(self, account: int) -> Account | None: ...

    def aliases(self, domain: str | None = None) -> list[Alias]: ...

    def credentials(self, account: int) -> Credentials | None: ...

    def resolve(self, address: Address) -> Resolution:
        """Where mail for this address goes: accounts and outside targets, aliases followed (to a
        bounded depth, each target once). `postmaster` without an account or alias of its own
        goes to the domain's first account (RFC 5321 §4.5.1), also `postmaster@<hostname>`."""
        ...

    def may_send_as(self, account: int, address: Address) -> bool:
        """The account's own address, or an alias that leads to it."""
        ...

    def signing_keys(self, domain: str) -> list[SigningKey]:
        """Of the domain; both algorithms where present."""
        ...
