"""postroad lab: two domains on a simulated internet, up until Ctrl-C."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from pathlib import Path

import click

from postroad.admin.operations import new_password
from postroad.app.terminal import FAILED, Failure, example, json_option, print_json
from postroad.lab.internet import Lab
from postroad.lab.ports import NoPort
from postroad.lab.process import STANDARD_PORTS, PostroadServer, ServerFailed, free_offset

DOMAINS = (("one.example", "ann"), ("two.example", "bob"))


@click.command(name="lab", epilog=example("postroad lab\npostroad lab --directory lab --workers 2"))
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the servers there; else they vanish at the end.",
)
@click.option("--workers", type=click.IntRange(0, 64), default=0, show_default=True)
@json_option
def command(directory: Path | None, workers: int, as_json: bool) -> None:
    """Start two mail servers and a DNS that knows them, and keep them up.

    Prints how to connect a mail program. Ctrl-C (or SIGTERM) stops everything.
    """
    place = directory or Path(tempfile.mkdtemp(prefix="postroad-lab-"))
    try:
        with Lab() as lab:
            _keep_up(lab, place, workers, as_json)
    except (ServerFailed, NoPort) as error:
        raise Failure(str(error), FAILED) from error
    finally:
        if directory is None:
            shutil.rmtree(place, ignore_errors=True)


def _keep_up(lab: Lab, place: Path, workers: int, as_json: bool) -> None:
    """Raises: ServerFailed."""
    addresses = [lab.address() for _ in DOMAINS]
    offset = free_offset(*addresses)
    servers: list[PostroadServer] = []
    shown = []
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        for (domain, person), address in zip(DOMAINS, addresses, strict=True):
            server = PostroadServer(place / domain, address=address, offset=offset)
            servers.append(server)
            password = new_password().reveal().decode()
            if not server.config.exists():
                server.init(
                    domain,
                    workers=workers,
                    nameservers=[lab.nameserver],
                    delivery_port=server.port("smtp"),
                )
                server.add_account(f"{person}@{domain}", password)
            else:
                _move_in(server, lab)
                server.run(
                    "account",
                    "password",
                    f"{person}@{domain}",
                    "--password-stdin",
                    stdin=password + "\n",
                )
            lab.dns.load(server.run("domain", "dns", domain))
            server.start()
            shown.append(_described(server, f"{person}@{domain}", password))
        if as_json:
            print_json({"nameserver": lab.nameserver, "servers": shown})
        else:
            _explain(lab, shown)
        stop.wait()
    finally:
        for server in servers:
            server.stop()


def _move_in(server: PostroadServer, lab: Lab) -> None:
    """A server of an earlier lab: its ports and the DNS are others now."""
    server.configure(
        [
            ("server", "hostname", f'"mx.{server.directory.name}"'),
            ("listen", "addresses", f'["{server.address}"]'),
            ("listen", "port_offset", str(server.offset)),
            ("dns", "nameservers", f'["{lab.nameserver}"]'),
            ("delivery", "port", str(server.port("smtp"))),
        ]
    )


def _described(server: PostroadServer, login: str, password: str) -> dict[str, object]:
    return {
        "login": login,
        "password": password,
        "address": server.address,
        "ports": {name: server.port(name) for name in STANDARD_PORTS},
        "config": str(server.config),
    }


def _explain(lab: Lab, shown: list[dict[str, object]]) -> None:
    click.echo(f"The lab is up. Its DNS answers on {lab.nameserver}.\n")
    for server in shown:
        ports = server["ports"]
        assert isinstance(ports, dict)
        click.echo(f"{server['login']}   password {server['password']}   on {server['address']}")
        click.echo(
            f"  send      SMTP {ports['submissions']} (TLS), {ports['submission']} (STARTTLS)"
        )
        click.echo(f"  read      IMAP {ports['imaps']} (TLS), {ports['imap']} (STARTTLS)")
        click.echo(f"            POP3 {ports['pop3s']} (TLS), {ports['pop3']} (STLS)")
        click.echo(f"  operate   postroad queue list -c {server['config']}\n")
    first, second = shown
    ports = first["ports"]
    assert isinstance(ports, dict)
    click.echo("A message from one to the other (the certificates are self-signed):")
    click.echo(
        f"  curl -k smtps://{first['address']}:{ports['submissions']} "
        f"-u {first['login']}:{first['password']} \\\n"
        f"    --mail-from {first['login']} --mail-rcpt {second['login']} -T message.eml\n"
    )
    click.echo("Ctrl-C stops everything.")
