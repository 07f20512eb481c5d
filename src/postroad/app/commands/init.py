"""postroad init"""

from __future__ import annotations

from pathlib import Path

import click

from postroad.app.terminal import Failure, example, failures, json_option, run


@click.command(
    name="init",
    epilog=example(
        "postroad init mail --domain one.example --hostname mx.one.example\n"
        "postroad init try --domain one.example --listen 127.0.0.1 --port-offset 10000"
    ),
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option("--domain", required=True, help="The first domain whose mail is kept here.")
@click.option("--hostname", help="The server's own name in DNS; else mx.DOMAIN.")
@click.option("--listen", multiple=True, metavar="ADDRESS", help="IP address; may be repeated.")
@click.option(
    "--port-offset",
    type=click.IntRange(0, 64000),
    default=0,
    help="Added to every port: 10000 makes 25 into 10025.",
)
@click.option(
    "--plaintext-on-loopback",
    is_flag=True,
    help="Clients on loopback may log in without TLS (for test tools).",
)
@click.option("--workers", type=click.IntRange(0, 64), help="Processes; 0 is one for everything.")
@click.option("--user", help="Started as root, the server becomes this user.")
@click.option(
    "--master-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Make a master key there, so that accounts can be encrypted.",
)
@json_option
def command(
    directory: Path,
    domain: str,
    hostname: str | None,
    listen: tuple[str, ...],
    port_offset: int,
    plaintext_on_loopback: bool,
    workers: int | None,
    user: str | None,
    master_key: Path | None,
    as_json: bool,
) -> None:
    """Make a new server in DIRECTORY: commented configuration, keys, certificate, data directory.

    Prints the DNS records to publish, as a piece of a zone file and as a table. Overwrites nothing.
    """
    from postroad.app.founding import Plan, found
    from postroad.app.publish import print_records

    plan = Plan(
        directory=directory,
        domain=domain,
        hostname=hostname or "",
        listen=listen,
        port_offset=port_offset,
        plaintext_on_loopback=plaintext_on_loopback,
        workers=workers,
        user=user or "",
        master_key=master_key,
    )
    with failures():
        try:
            done = run(found(plan))
        except FileExistsError as error:
            raise Failure(str(error), 4) from error
    if not as_json:
        click.echo(f"Made {done.config_file}. For {done.domain}, publish in DNS:\n", err=True)
    print_records(done.records, as_json)
    if not as_json:
        click.echo("\n" + "\n".join(done.remarks), err=True)
