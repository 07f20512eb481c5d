"""What a domain publishes in DNS, printed: a piece of a zone file, a table, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from postroad.app.config import Config
from postroad.app.terminal import print_json, print_table

if TYPE_CHECKING:
    from postroad.directory.contract import Directory
    from postroad.dns.records import Record

ANY_ADDRESS = frozenset({"0.0.0.0", "::"})


def records_of(directory: Directory, config: Config, domain: str) -> list[Record]:
    from postroad.dns.records import wanted_records

    addresses = [a for a in config.listen.addresses if a not in ANY_ADDRESS]
    keys = directory.signing_keys(domain)
    return wanted_records(
        domain=domain,
        hostname=config.server.hostname,
        addresses=addresses,
        dkim=[(key.selector, key.algorithm, key.public) for key in keys],
    )


def print_records(
    records: Sequence[Record], as_json: bool, *, zone: bool = True, table: bool = True
) -> None:
    """The zone fragment, then the table, both to standard output.

    Into a file or a pipe the table goes as comments below a zone, which stays one.
    """
    from postroad.dns.records import render_zone

    if as_json:
        print_json(records)
        return
    if zone:
        click.echo(render_zone(records))
    if table:
        rows = [(record.name, record.type, record.value) for record in records]
        lead = "; " if zone and not sys.stdout.isatty() else ""
        print_table(("NAME", "TYPE", "VALUE"), rows, "No record.", lead=lead)
