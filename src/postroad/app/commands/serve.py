"""postroad serve"""

from __future__ import annotations

import sys

import click

from postroad.app.terminal import UNAVAILABLE, Failure, config_option, example


@click.command(name="serve", epilog=example("postroad serve -c mail/postroad.toml"))
@config_option
def command(config_file: str | None) -> None:
    """Run the server in the foreground.

    One line on standard output says when it is ready (and sd_notify tells systemd); the log goes
    to standard error. SIGTERM drains and stops, SIGHUP reads configuration and certificate again.
    """
    from postroad.app.config import locate

    path = locate(config_file)
    from postroad.app.serve import serve
    from postroad.app.sockets import CannotStart

    try:
        code = serve(path)
    except CannotStart as error:
        raise Failure(str(error), UNAVAILABLE) from error
    sys.exit(code)
