"""postroad message trace"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from postroad.app.terminal import config_option, example, json_option, neutral, print_json, run

if TYPE_CHECKING:
    from postroad.admin.mail import HistoryRecord


@click.group(name="message")
def command() -> None:
    """What became of a message."""


@command.command(epilog=example("postroad message trace 1j2p3x9k4m5n6q7r"))
@click.argument("message")
@json_option
@config_option
def trace(message: str, as_json: bool, config_file: str | None) -> None:
    """Show everything that happened to one message, in order.

    MESSAGE is the id in the reply that accepted it (250 ... id) and in the log.
    """
    from postroad.admin import mail
    from postroad.app.connect import books_of, configured

    async def work() -> list[HistoryRecord]:
        async with books_of(configured(config_file)) as books:
            return mail.message_history(books, message)

    records = run(work())
    if as_json:
        print_json(records)
        return
    click.echo(f"Message {message}")
    for record in records:
        click.echo(f"\n{record.at}  {_words(record.event)}")
        width = max((len(name) for name in record.details), default=0)
        for name, value in record.details.items():
            for number, line in enumerate(_lines(value)):
                label = name.replace("_", " ") if number == 0 else ""
                click.echo(f"    {label.ljust(width)}  {line}")


def _words(event: str) -> str:
    """MessageAccepted: "Message accepted"."""
    out = ""
    for at, char in enumerate(event):
        starts = (
            char.isupper() and at and (event[at - 1].islower() or event[at + 1 : at + 2].islower())
        )
        out += (" " if starts else "") + (char.lower() if starts else char)
    return out


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [line for item in value for line in _lines(item)] or ["-"]
    if isinstance(value, dict):
        return [neutral(", ".join(f"{name}={item}" for name, item in value.items()))]
    return [neutral(line) for line in str(value).splitlines()] or [""]
