"""postroad account administrators"""

from __future__ import annotations

import click

from postroad.app.terminal import (
    config_option,
    example,
    json_option,
    print_json,
    print_table,
    run,
)


@click.command(
    name="administrators",
    epilog=example("postroad account administrators --add ann@one.example"),
)
@click.option("--add", multiple=True, metavar="ADDRESS", help="Make the account one of them.")
@click.option("--remove", multiple=True, metavar="ADDRESS", help="It is none any more.")
@json_option
@config_option
def command(
    add: tuple[str, ...], remove: tuple[str, ...], as_json: bool, config_file: str | None
) -> None:
    """Accounts that may set the quotas of their tenant from a mail program (SETQUOTA)."""
    from postroad.admin import sharing
    from postroad.app.connect import books_of, configured

    async def work() -> list[str]:
        async with books_of(configured(config_file)) as books:
            await sharing.set_administrators(books, add, remove)
            return sharing.list_administrators(books)

    found = run(work())
    if as_json:
        print_json(found)
        return
    print_table(("ADDRESS",), [(address,) for address in found], "There is no administrator.")
