"""The command line's manners: -c on every command, errors that say what to do, tables or JSON."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any, TypeVar

import click

OK = 0
FAILED = 1
USAGE = 2
NOT_FOUND = 3
CONFLICT = 4
UNAVAILABLE = 5

EXIT_CODES = """\b
Exit codes:
  0  done
  1  failed: what was asked could not be done
  2  usage: wrong options, or a configuration that cannot be used
  3  not found: no such domain, account, alias or message
  4  conflict: it exists already, or something still uses it
  5  unavailable: disk or server failed; the same command may work later"""

T = TypeVar("T")


class Failure(click.ClickException):
    """Ends the command: one line on stderr that says what to do, and the exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        setattr(self, "exit_code", exit_code)  # noqa: B010  # click declares it for the class

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.format_message().splitlines():
            click.echo(f"postroad: {line}", file=file, err=file is None)


def example(text: str) -> str:
    """The end of a command's help."""
    lines = "\n".join(f"  $ {line}" for line in text.strip().splitlines())
    return f"\b\nExample:\n{lines}"


def config_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-c`, which may also stand before the command."""

    @click.option(
        "-c",
        "--config",
        "config_file",
        metavar="FILE",
        help="The configuration; else POSTROAD_CONFIG, else ./postroad.toml.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, config_file: str | None, **kwargs: Any) -> Any:
        context = click.get_current_context()
        given = config_file or (context.find_root().obj or {}).get("config_file")
        with failures():
            return command(*args, config_file=given, **kwargs)

    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def failures() -> Iterator[None]:
    """Our errors as exit codes and messages for people."""
    from postroad.app.config import ConfigError
    from postroad.mail.errors import Fault, StateError, Unavailable

    try:
        yield
    except ConfigError as error:
        raise Failure(str(error), USAGE) from error
    except StateError as error:
        conflict = {Fault.ALREADYEXISTS, Fault.INUSE, Fault.CONFLICT}
        code = FAILED
        if error.fault is Fault.NONEXISTENT:
            code = NOT_FOUND
        elif error.fault in conflict:
            code = CONFLICT
        raise Failure(error.text, code) from error
    except Unavailable as error:
        raise Failure(error.what + _remedy(error.what), UNAVAILABLE) from error
    except ValueError as error:
        raise Failure(str(error), FAILED) from error
    except OSError as error:
        raise Failure(os_error_text(error), UNAVAILABLE) from error


def os_error_text(error: OSError) -> str:
    """For people: which file, what is wrong with it."""
    if error.filename is None or error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}{_remedy(error.strerror)}"


def _remedy(what: str) -> str:
    if "full" in what or "No space" in what:
        return ". Nothing was changed: free some space, then say it again"
    return ""


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)


def neutral(text: str) -> str:
    """The text without what would steer the terminal: peers and senders chose these words."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def print_json(value: Any) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str, *, lead: str = ""
) -> None:
    """A table for people; without a terminal plain aligned columns, nothing cut.

    empty: what to say when there are no rows. lead: before each line, where it is not drawn.
    """
    if not rows:
        click.echo(empty, err=True)
        return
    texts = [[neutral(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in texts:
            table.add_row(*(Text(cell) for cell in row))
        Console().print(table)
        return
    lines = [list(columns), *texts]
    widths = [max(len(line[at]) for line in lines) for at in range(len(columns))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo(lead + "  ".join(cells).rstrip())


def date_text(seconds: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
