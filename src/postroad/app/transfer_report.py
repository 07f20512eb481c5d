"""The end of an import or export, said for people or as JSON."""

from __future__ import annotations

from typing import Any

import click

from postroad.admin.transfer.report import Report
from postroad.app.terminal import FAILED, Failure, neutral, print_json, print_table

SHOWN_MAX = 20
"""Of the messages that did not go, on the terminal; --json has all."""


def mapping(pairs: tuple[str, ...]) -> dict[str, str]:
    """THERE=HERE. Raises: UsageError."""
    found = {}
    for pair in pairs:
        there, equals, here = pair.partition("=")
        if not equals or not there or not here:
            raise click.UsageError(f"--map {pair}: say THERE=HERE")
        found[there] = here
    return found


def as_values(report: Report) -> dict[str, Any]:
    return {
        "dry_run": report.dry,
        "added": report.added,
        "octets": report.octets,
        "seconds": report.seconds,
        "folders": [
            {
                "folder": item.folder,
                "mailbox": item.mailbox,
                "found": item.found,
                "added": item.added,
                "known": item.known,
                "changed": item.changed,
                "failed": item.failed,
            }
            for item in report.folders
        ],
        "failed": [{"where": item.where, "reason": item.reason} for item in report.failed],
        "remarks": [{"where": item.where, "text": item.reason} for item in report.remarks],
        "verified": report.verified,
        "differ": [{"where": item.where, "reason": item.reason} for item in report.differ],
    }


def tell(report: Report, *, as_json: bool, verb: str) -> None:
    """verb: what the messages have done: "come", "gone". Raises: Failure when not all have."""
    if as_json:
        print_json(as_values(report))
    else:
        _tell(report, verb)
    if report.differ:
        raise Failure(f"{len(report.differ)} messages are not as they were over there", FAILED)
    if report.failures:
        raise Failure(f"{report.failures} messages have not {verb}", FAILED)


def _tell(report: Report, verb: str) -> None:
    print_table(
        ("FOLDER", "MAILBOX", "NEW", "BEFORE", "FLAGS", "FAILED"),
        [
            (item.folder, item.mailbox, item.added, item.known, item.changed, item.failed)
            for item in report.folders
        ],
        "There is no folder.",
    )
    for what, faults in (
        ("", report.failed),
        ("", report.differ),
        ("remark: ", report.remarks),
    ):
        for fault in faults[:SHOWN_MAX]:
            click.echo(f"{what}{neutral(fault.where)}: {neutral(fault.reason)}", err=True)
        if len(faults) > SHOWN_MAX:
            click.echo(f"{what}... and {len(faults) - SHOWN_MAX} more (--json has all)", err=True)
    if report.dry:
        click.echo(f"{report.added} messages would have {verb}; nothing was changed.")
    else:
        speed = f", {report.added / report.seconds:.0f} a second" if report.seconds > 1 else ""
        click.echo(
            f"{report.added} messages have {verb}{speed}; {report.verified} were read back and"
            " are the same."
        )
