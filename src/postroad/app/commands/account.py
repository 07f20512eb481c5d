"""postroad account add | list | password | quota | administrators | undelete | encrypt | remove"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from postroad.app.commands import (
    account_administrators,
    account_encrypt,
    account_quota,
    account_undelete,
)
from postroad.app.terminal import (
    Failure,
    config_option,
    date_text,
    example,
    json_option,
    print_json,
    print_table,
    run,
)

if TYPE_CHECKING:
    from postroad.admin.operations import NewAccount
    from postroad.directory.values import Account
    from postroad.mail.secret import Secret

password_stdin_option = click.option(
    "--password-stdin", is_flag=True, help="Read the password from standard input (one line)."
)
generate_option = click.option(
    "--generate", is_flag=True, help="Make a password and print it, this once."
)


@click.group(name="account")
def command() -> None:
    """The people (and programs) who have a mailbox."""


command.add_command(account_administrators.command)
command.add_command(account_encrypt.command)
command.add_command(account_quota.command)
command.add_command(account_undelete.command)


@command.command(
    epilog=example(
        "postroad account add ann@one.example\n"
        "echo secret | postroad account add ann@one.example --password-stdin"
    )
)
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@click.option("--name", default="", help="The person's name.")
@password_stdin_option
@generate_option
@json_option
@config_option
def add(
    addresses: tuple[str, ...],
    name: str,
    password_stdin: bool,
    generate: bool,
    as_json: bool,
    config_file: str | None,
) -> None:
    """Add accounts. Asks for the password, or makes one where nobody can be asked.

    A password that is given serves all of them; one that is made is each account's own.
    """
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    config = configured(config_file)
    for address in addresses:
        operations.checked_address(address)
    password = chosen_password(password_stdin, generate)

    async def work() -> None:
        async with books_of(config) as books:
            for address in addresses:
                made = await operations.add_account(
                    books, address, password, name=name, now=datetime.now(UTC)
                )
                _print_new(made, "Added", as_json)

    run(work())


@command.command(name="list", epilog=example("postroad account list --domain one.example"))
@click.option("--domain", help="Only of this domain.")
@json_option
@config_option
def list_(domain: str | None, as_json: bool, config_file: str | None) -> None:
    """List the accounts."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    async def work() -> list[Account]:
        async with books_of(configured(config_file)) as books:
            return operations.list_accounts(books, domain)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(
        ("ADDRESS", "NAME", "ADDED"),
        [(account.address, account.name, date_text(account.created)) for account in found],
        "No account yet. Add one: postroad account add ann@example.org",
    )


@command.command(epilog=example("postroad account password ann@one.example --generate"))
@click.argument("address")
@password_stdin_option
@generate_option
@json_option
@config_option
def password(
    address: str, password_stdin: bool, generate: bool, as_json: bool, config_file: str | None
) -> None:
    """Set a new password. The old one stops working at once."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    config = configured(config_file)
    chosen = chosen_password(password_stdin, generate)

    async def work() -> NewAccount:
        async with books_of(config) as books:
            return await operations.set_password(books, address, chosen)

    _print_new(run(work()), "New password for", as_json)


@command.command(epilog=example("postroad account remove ann@one.example --yes"))
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(address: str, yes: bool, config_file: str | None) -> None:
    """Remove an account with all its mail."""
    from postroad.admin import operations
    from postroad.app.connect import books_of, configured

    config = configured(config_file)
    if not yes:
        click.confirm(f"Remove {address} with all its mail for good?", abort=True, err=True)

    async def work() -> tuple[Account, int]:
        async with books_of(config) as books:
            return await operations.remove_account(books, address)

    account, messages = run(work())
    click.echo(f"Removed {account.address} and {messages} messages.", err=True)


def chosen_password(from_stdin: bool, generate: bool) -> Secret | None:
    """None: one is to be made. Raises: Failure, ValueError."""
    import sys

    from postroad.directory.passwords import prepare
    from postroad.mail.secret import Secret
    from postroad.protocol.sasl.mechanism import PASSWORD_OCTETS_MAX

    if from_stdin and generate:
        raise click.UsageError("--password-stdin and --generate exclude each other.")
    if from_stdin:
        line = sys.stdin.buffer.readline().rstrip(b"\r\n")
        if not line:
            raise Failure("standard input holds no password: echo PASSWORD | postroad ...")
        chosen = Secret(line)
    elif generate or not sys.stdin.isatty():
        return None
    else:
        text = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
        chosen = Secret(text)
    prepare(chosen)
    if len(chosen.reveal()) > PASSWORD_OCTETS_MAX:
        raise Failure(f"the password is longer than {PASSWORD_OCTETS_MAX} octets")
    return chosen


def _print_new(made: NewAccount, done: str, as_json: bool) -> None:
    """The account; the password only if it was made here, and only now."""
    account = made.account
    secret = made.password.reveal().decode() if made.password is not None else None
    if as_json:
        shown = {"account": account.account, "address": account.address, "name": account.name}
        print_json(shown if secret is None else {**shown, "password": secret})
        return
    click.echo(f"{done} {account.address}.", err=True)
    if secret is not None:
        click.echo("Its password, which is not shown again:", err=True)
        click.echo(secret)
