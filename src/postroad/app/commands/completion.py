"""postroad completion"""

from __future__ import annotations

import click

from postroad.app.terminal import example


@click.command(
    name="completion",
    epilog=example(
        'eval "$(postroad completion bash)"          # in ~/.bashrc\n'
        "postroad completion fish > ~/.config/fish/completions/postroad.fish"
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes postroad's commands in your shell."""
    from click.shell_completion import get_completion_class

    from postroad.app.cli import main

    made = get_completion_class(shell)
    assert made is not None
    completion = made(main, {}, "postroad", "_POSTROAD_COMPLETE")
    source = completion.source_template % completion.source_vars()
    click.echo(source)
