"""postroad verify"""

from __future__ import annotations

import sys

import click

from postroad.app.terminal import FAILED, Failure, config_option, example, json_option, print_json


@click.command(name="verify", epilog=example("postroad verify -c mail/postroad.toml"))
@json_option
@config_option
def command(as_json: bool, config_file: str | None) -> None:
    """Check every checksum and every reference of the stored mail and the queue.

    Reads beside the running server and mends nothing. Exit code 1 when something is wrong.
    """
    from postroad.app.connect import configured, demand_data
    from postroad.store.verify import verify

    data_dir = configured(config_file).data_dir
    demand_data(data_dir)
    steps: list[str] = []

    def progress(step: str, count: int) -> None:
        if sys.stderr.isatty() and not as_json:
            click.echo(f"\r\x1b[K{step} {count or ''}", nl=False, err=True)
        if step not in steps:
            steps.append(step)

    found = list(verify(data_dir, progress))
    if sys.stderr.isatty() and not as_json:
        click.echo("\r\x1b[K", nl=False, err=True)
    if as_json:
        print_json({"checked": steps, "findings": found})
    for finding in () if as_json else found:
        click.echo(f"{finding.kind}: {finding.where}: {finding.text}")
    if found:
        raise Failure(f"{len(found)} things are not as they must be", FAILED)
    if not as_json:
        click.echo(f"All is whole: {', '.join(steps)}.")
