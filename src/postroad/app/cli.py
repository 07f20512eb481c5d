"""The `postroad` program: its commands, each loaded when it is called."""

from __future__ import annotations

import importlib

import click

from postroad.app.terminal import EXIT_CODES

COMMANDS = {
    "init": "Make a new server: configuration, keys, certificate, data directory.",
    "serve": "Run the server.",
    "domain": "The domains whose mail is kept here.",
    "account": "The people (and programs) who have a mailbox.",
    "alias": "Addresses that lead to others.",
    "acl": "Who else may use a mailbox.",
    "public": "Accounts whose mailboxes everybody finds below Shared/.",
    "annotation": "What mail programs are told of the server.",
    "queue": "Mail on its way to other servers.",
    "message": "What became of a message.",
    "config": "The configuration file.",
    "packs": "The files that hold the octets of messages.",
    "index": "The search index: how much of the mail is in it; building it anew.",
    "import": "Bring mail from a Maildir, mbox files or an IMAP account.",
    "export": "Bring mail into a Maildir, mbox files or an IMAP account.",
    "backup": "Copies of everything, taken while the server runs.",
    "restore": "A server, an account or a message back from a backup.",
    "verify": "Check every checksum and reference of the stored mail.",
    "database": "The tables: their version, copies from before upgrades, the way back.",
    "lab": "A simulated internet with two domains, to try things out.",
    "completion": "Completion of commands for your shell.",
}
"""Name to one line; `app.commands.<name>` holds the command as `command`."""

PLACES = {"lab": "postroad.lab.command", "import": "postroad.app.commands.import_"}
"""Commands that live elsewhere: the lab stands beside the house, `import` is a word of Python's."""


class Program(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(PLACES.get(cmd_name, f"postroad.app.commands.{cmd_name}"))
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)


@click.group(
    name="postroad",
    cls=Program,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
@click.option("-c", "--config", "config_file", metavar="FILE", help="The configuration file.")
@click.version_option(package_name="postroad", prog_name="postroad")
@click.pass_context
def program(context: click.Context, config_file: str | None) -> None:
    """Postroad, a complete mail server.

    \b
    A server in three commands:
      $ postroad init mail --domain example.org
      $ postroad account add ann@example.org -c mail/postroad.toml
      $ postroad serve -c mail/postroad.toml
    """
    context.obj = {"config_file": config_file}


main = program
"""What the console script calls."""
