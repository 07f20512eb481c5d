"""postroad config check | show | reference"""

from __future__ import annotations

import click

from postroad.app.terminal import (
    FAILED,
    Failure,
    config_option,
    example,
    json_option,
    print_json,
)


@click.group(name="config")
def command() -> None:
    """The configuration file."""


@command.command(epilog=example("postroad config check -c mail/postroad.toml"))
@config_option
def check(config_file: str | None) -> None:
    """Check the configuration: keys, values, certificate, user, data directory."""
    from postroad.app.config import load, locate
    from postroad.app.inspection import findings

    path = locate(config_file)
    problems, remarks = findings(load(path))
    for remark in remarks:
        click.echo(f"note: {remark}", err=True)
    if problems:
        raise Failure("\n".join(f"{path}: {problem}" for problem in problems), FAILED)
    click.echo(f"{path} can be used.")


@command.command(epilog=example("postroad config show --json"))
@json_option
@config_option
def show(as_json: bool, config_file: str | None) -> None:
    """Print every setting as it takes effect, defaults included."""
    import msgspec

    from postroad.app.connect import configured
    from postroad.app.reference import toml_value

    tree = msgspec.to_builtins(configured(config_file))
    if as_json:
        print_json(tree)
        return
    for number, (section, values) in enumerate(tree.items()):
        click.echo(("\n" if number else "") + f"[{section}]")
        for key, value in values.items():
            if value is not None:
                click.echo(f"{key} = {toml_value(value)}")


@command.command(epilog=example("postroad config reference"))
def reference() -> None:
    """Print the meaning of every key (Markdown)."""
    from postroad.app.reference import render_reference

    click.echo(render_reference(), nl=False)
