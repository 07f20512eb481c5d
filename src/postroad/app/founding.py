"""Making a new server: its directory, configuration, certificate, first domain with its keys."""

from __future__ import annotations

import os
import pwd
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from postroad.admin.operations import add_domain, checked_domain
from postroad.app.config import DEFAULT_FILE, Config, ConfigError, parse
from postroad.app.connect import books_of
from postroad.app.master_key import make_master_key
from postroad.app.publish import records_of
from postroad.app.reference import render_file

if TYPE_CHECKING:
    from postroad.dns.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """hostname, user: "" when not said. listen: () for every address."""

    directory: Path
    domain: str
    hostname: str = ""
    listen: tuple[str, ...] = ()
    port_offset: int = 0
    plaintext_on_loopback: bool = False
    workers: int | None = None
    user: str = ""
    master_key: Path | None = None
    """Where a key is made, for accounts that shall be encrypted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """remarks: what to do next, for people."""

    config_file: Path
    domain: str
    records: list[Record]
    remarks: tuple[str, ...]


async def found(plan: Plan) -> Founded:
    """Raises: FileExistsError (nothing was changed), ValueError, ConfigError, OSError."""
    directory = plan.directory.resolve()
    config_file = directory / DEFAULT_FILE
    domain = checked_domain(plan.domain)
    text = _configuration(plan, domain)
    config = parse(text, config_file)
    _demand_fresh(config_file, config)
    if plan.master_key is not None and plan.master_key.exists():
        raise FileExistsError(f"{plan.master_key} exists already, and nothing was changed")
    _demand_user(plan)
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    made = [config.data_dir, Path(config.tls.certificate).parent, config_file]
    try:
        _write_certificate(config)
        if plan.master_key is not None:
            make_master_key(plan.master_key)
            made.append(plan.master_key)
        config.data_dir.mkdir(mode=0o700)
        now = datetime.now(UTC)
        async with books_of(config, create=True) as books:
            await add_domain(books, domain, now=now)
            records = records_of(books.directory, config, domain)
        config_file.write_text(text, encoding="utf-8")
        if plan.user and os.geteuid() == 0:
            _give([*made[:2], *made[3:]], plan.user)
    except BaseException:
        for path in made:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise
    return Founded(
        config_file=config_file,
        domain=domain,
        records=records,
        remarks=tuple(_remarks(plan, config_file, domain)),
    )


def _configuration(plan: Plan, domain: str) -> str:
    values: dict[tuple[str, str], Any] = {("server", "hostname"): plan.hostname or f"mx.{domain}"}
    if plan.workers is not None:
        values["server", "workers"] = plan.workers
    user = plan.user or _user_for_a_trial(plan)
    if user:
        values["server", "user"] = user
    if plan.listen:
        values["listen", "addresses"] = plan.listen
    if plan.port_offset:
        values["listen", "port_offset"] = plan.port_offset
    if plan.master_key is not None:
        values["storage", "master_key"] = str(plan.master_key.absolute())
    if plan.plaintext_on_loopback:
        values["auth", "plaintext_on_loopback"] = True
    return render_file(values)


def _user_for_a_trial(plan: Plan) -> str:
    """Made by root on other than the standard ports, it is a trial and may stay root; a real
    server says who it becomes, or does not start."""
    return "root" if os.geteuid() == 0 and plan.port_offset else ""


def _demand_fresh(config_file: Path, config: Config) -> None:
    for path in (config_file, config.data_dir, Path(config.tls.certificate), Path(config.tls.key)):
        if path.exists():
            raise FileExistsError(
                f"{path} exists already, and nothing was changed. Choose another directory, or "
                "move that away"
            )


def _demand_user(plan: Plan) -> None:
    """Raises: ConfigError."""
    if not plan.user:
        return
    try:
        pwd.getpwnam(plan.user)
    except KeyError as error:
        raise ConfigError(
            "--user", [f"there is no user {plan.user!r}. Make one: useradd --system {plan.user}"]
        ) from error


def _write_certificate(config: Config) -> None:
    from postroad.net.tls import self_signed

    certificate, key = Path(config.tls.certificate), Path(config.tls.key)
    certificate.parent.mkdir(mode=0o700, exist_ok=True)
    addresses = [a for a in config.listen.addresses if a not in ("0.0.0.0", "::")]
    made_certificate, made_key = self_signed([config.server.hostname, *addresses])
    certificate.write_bytes(made_certificate)
    key.touch(0o600)
    key.write_bytes(made_key)


def _give(made: list[Path], user: str) -> None:
    """The new user owns what the server reads and writes; the configuration stays root's."""
    owner = pwd.getpwnam(user)
    for path in made:
        for item in (path, *path.rglob("*")):
            os.chown(item, owner.pw_uid, owner.pw_gid)


def _remarks(plan: Plan, config_file: Path, domain: str) -> list[str]:
    lines = [
        "Next:",
        f"  postroad account add you@{domain} -c {config_file}",
        f"  postroad serve -c {config_file}",
        "The certificate is self-signed: set [tls] certificate and key to a real one.",
    ]
    if plan.master_key is not None:
        lines.append(
            f"Keep a copy of {plan.master_key} in a safe place: without it the mail of encrypted "
            "accounts is lost."
        )
    if os.geteuid() == 0 and not plan.user:
        if plan.port_offset:
            lines.append("Made by root for a trial: the server stays root ([server] user).")
        else:
            lines.append(
                "Made by root: before it starts, set [server] user, and give it data and tls."
            )
    return lines
