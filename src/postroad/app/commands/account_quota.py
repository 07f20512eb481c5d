"""postroad account quota"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from postroad.app.terminal import (
    config_option,
    example,
    json_option,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.store.quota import Quota

_SIZE = re.compile(r"(\d+)\s*([kmgt]?)i?b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
DEFAULT, NONE = "default", "none"


def parse_limit(text: str) -> int | None:
    """None for "default", -1 for "none", else octets: 500M, 2G. Raises: ValueError."""
    if text == DEFAULT:
        return None
    if text == NONE:
        return -1
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no limit: say 500M, 2G, a number, none or default")
    return int(found[1]) << _POWERS[found[2].lower()]


@click.command(
    name="quota",
    epilog=example(
        "postroad account quota ann@one.example\n"
        "postroad account quota ann@one.example --storage 2G --messages none"
    ),
)
@click.argument("address")
@click.option("--storage", metavar="SIZE", help="Octets of mail: 500M, 2G, none or default.")
@click.option("--messages", metavar="N", help="Messages: a number, none or default.")
@click.option("--mailboxes", metavar="N", help="Mailboxes: a number, none or default.")
@json_option
@config_option
def command(
    address: str,
    storage: str | None,
    messages: str | None,
    mailboxes: str | None,
    as_json: bool,
    config_file: str | None,
) -> None:
    """Show what an account uses and may use; set its limits.

    `default` is what [accounts] of the configuration says. A limit below what is in use removes
    nothing: nothing can be added until there is room.
    """
    from postroad.admin.operations import quota_of, set_quota
    from postroad.app.connect import books_of, configured

    given = [
        text if text is None else (parse_limit(text),) for text in (storage, messages, mailboxes)
    ]

    async def work() -> Quota:
        async with books_of(configured(config_file)) as books:
            if any(given):
                own = quota_of(books, address).own
                limits = [
                    kept if change is None else change[0]
                    for kept, change in zip(own, given, strict=True)
                ]
                await set_quota(books, address, *limits)
            return quota_of(books, address)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("RESOURCE", "USED", "LIMIT", "SET BY"),
        [
            _row("storage (octets)", found.octets, found.octets_max, found.own[0]),
            _row("messages", found.messages, found.messages_max, found.own[1]),
            _row("mailboxes", found.mailboxes, found.mailboxes_max, found.own[2]),
        ],
        "",
    )
    if found.removed_messages:
        click.echo(
            f"{found.removed_messages} removed messages of {found.removed_octets} octets can be "
            "brought back; they do not count.",
            err=True,
        )


def _row(name: str, used: int, limit: int | None, own: int | None) -> tuple[object, ...]:
    return (name, used, NONE if limit is None else limit, "default" if own is None else "account")
