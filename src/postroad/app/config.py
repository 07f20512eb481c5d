"""The configuration: one TOML file, read once into frozen values.

Every key carries its meaning beside its type: the reference and the commented file that `postroad
init` writes are made from it. An unknown key is an error with its path. Lower floors receive the
values they need, never this.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from postroad.mail import limits
from postroad.mail.address import is_domain

DEFAULT_FILE = "postroad.toml"
ENVIRONMENT = "POSTROAD_CONFIG"
WORKERS_MAX = 64
KEY_SOURCES = ("credential:", "env:")
"""How [storage] master_key names what is no path."""

Port = Annotated[int, Meta(ge=0, le=65535)]
Seconds = Annotated[int, Meta(ge=1)]


class ConfigError(Exception):
    """The configuration cannot be used. problems: one line each, with the key's path."""

    def __init__(self, source: str, problems: list[str]) -> None:
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))
        self.source = source
        self.problems = problems


class Server(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server itself."""

    hostname: Annotated[
        str,
        Meta(
            description="The server's own name in DNS: in greetings, Received and "
            "Authentication-Results fields. Its A/AAAA records point here, the PTR record of the "
            "address back to it, and the MX records of your domains name it."
        ),
    ]
    data_dir: Annotated[
        str,
        Meta(description="Where everything is kept. Relative paths start at this file."),
    ] = "data"
    workers: Annotated[
        Annotated[int, Meta(ge=0, le=WORKERS_MAX)] | None,
        Meta(
            description="Processes that speak to clients, all on the same ports. 0: one process "
            "does everything. Unset: 0 on one core, else one per core, 8 at most.",
        ),
    ] = None
    user: Annotated[
        str,
        Meta(
            description="Started as root, the server binds its ports and then becomes this user, "
            "who must own data_dir. Empty: it refuses to run as root."
        ),
    ] = ""
    group: Annotated[str, Meta(description="The group to become. Empty: the user's own.")] = ""
    uvloop: Annotated[
        bool, Meta(description="Use uvloop (must be installed: pip install postroad[uvloop]).")
    ] = False


class Listen(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where clients and other servers connect. Port 0 switches a service off."""

    addresses: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="IP addresses to listen on, the same for every service."),
    ] = ("0.0.0.0", "::")
    port_offset: Annotated[
        Port,
        Meta(
            description="Added to every port below, so that the server runs unprivileged beside "
            "others: 10000 makes 25 into 10025. Ports of services to come keep their place in it: "
            "ManageSieve 4190, HTTP 80, HTTPS 443."
        ),
    ] = 0
    smtp: Annotated[Port, Meta(description="Mail from other servers (RFC 5321).")] = 25
    submission: Annotated[
        Port, Meta(description="Mail from your users, STARTTLS first (RFC 6409).")
    ] = 587
    submissions: Annotated[
        Port, Meta(description="Mail from your users, TLS from the start (RFC 8314).")
    ] = 465
    imap: Annotated[Port, Meta(description="Mailboxes, STARTTLS first (RFC 3501).")] = 143
    imaps: Annotated[Port, Meta(description="Mailboxes, TLS from the start (RFC 8314).")] = 993
    pop3: Annotated[Port, Meta(description="Fetching mail, STLS first (RFC 1939).")] = 110
    pop3s: Annotated[Port, Meta(description="Fetching mail, TLS from the start (RFC 8314).")] = 995


class TLS(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The server's certificate. Read again on SIGHUP."""

    certificate: Annotated[
        str,
        Meta(
            description="PEM file: the certificate, then its chain. `postroad init` makes one "
            "that nobody else trusts; put a real one here."
        ),
    ] = "tls/cert.pem"
    key: Annotated[str, Meta(description="PEM file: the private key.")] = "tls/key.pem"
    client_authorities: Annotated[
        str,
        Meta(
            description="PEM file of authorities whose client certificates log in (SASL EXTERNAL): "
            "the certificate's mail address is the account. Empty: no client certificates."
        ),
    ] = ""


class Auth(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Logging in."""

    plaintext_on_loopback: Annotated[
        bool,
        Meta(description="Let clients on loopback log in without TLS. For test tools only."),
    ] = False
    scram_plus: Annotated[
        bool,
        Meta(
            description="Offer SCRAM-SHA-256-PLUS (bound to the TLS certificate). Off, because "
            "programs built on GNU SASL (mutt of Debian) choose it where it is offered and then "
            "cannot log in over TLS 1.3."
        ),
    ] = False
    url_submitters: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of accounts under which submission servers log in to fetch what "
            "users let them fetch by IMAP URLs (`submit+`, RFC 4467)."
        ),
    ] = ()


class OAuth(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Logging in with tokens of an OpenID Connect issuer (OAUTHBEARER, XOAUTH2)."""

    issuer: Annotated[
        str,
        Meta(
            description="URL of the issuer, as in its tokens; its description is read from "
            "/.well-known/openid-configuration below it. Empty: no tokens are taken."
        ),
    ] = ""
    audience: Annotated[
        str,
        Meta(
            description="What a token must have been issued for (its `aud`). Empty takes every "
            "token of the issuer: only right when it serves nobody else."
        ),
    ] = ""
    claim: Annotated[
        str, Meta(min_length=1, description="The claim that holds the account's address.")
    ] = "email"
    client_id: Annotated[
        str,
        Meta(description="For asking the issuer about tokens that are not signed (RFC 7662)."),
    ] = ""
    client_secret_file: Annotated[
        str, Meta(description="File with the secret of client_id, on one line.")
    ] = ""


class DNS(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who answers questions to DNS."""

    nameservers: Annotated[
        tuple[str, ...],
        Meta(
            description='Resolvers, as in "127.0.0.1", "127.0.0.1:5353" or "[::1]:53". A '
            "validating one on this machine is best. Empty: those of /etc/resolv.conf."
        ),
    ] = ()
    timeout_s: Annotated[
        float, Meta(gt=0, le=60, description="How long one try waits; there are three.")
    ] = 3.0


class Delivery(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mail to other servers."""

    port: Annotated[
        int,
        Meta(ge=1, le=65535, description="Port of other servers. Anything but 25 is for the lab."),
    ] = 25
    retry_schedule_s: Annotated[
        tuple[Seconds, ...],
        Meta(
            min_length=1,
            description="Waits after the first, second... failed attempt; the last one repeats.",
        ),
    ] = (60, 300, 900, 1800, 3600, 7200)
    lifetime_s: Annotated[
        Seconds,
        Meta(description="A message that could not be delivered in this time goes back."),
    ] = 5 * 86400
    bounce_lifetime_s: Annotated[
        Seconds, Meta(description="The same for bounces, which then are dropped.")
    ] = 86400


class Accounts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What accounts may hold; `postroad account quota` sets it for one."""

    storage_octets: Annotated[
        int, Meta(ge=0, le=1 << 60, description="Mail of one account, in octets. 0: no limit.")
    ] = 0
    messages: Annotated[
        int, Meta(ge=0, le=1 << 40, description="Messages of one account. 0: no limit.")
    ] = 0
    mailboxes: Annotated[
        int, Meta(ge=0, le=10_000, description="Mailboxes of one account. 0: no limit of yours.")
    ] = 0
    keep_removed_days: Annotated[
        int,
        Meta(
            ge=0,
            le=3650,
            description="How long mail that was expunged or deleted can be brought back "
            "(`postroad account undelete`). It counts for no limit. 0: it goes with the next "
            "sweep, within some hours.",
        ),
    ] = 14


class Storage(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How mail lies on the disk. Read at start."""

    dictionary: Annotated[
        bool,
        Meta(
            description="Learn once, when there is enough mail, what small messages have in "
            "common, and compress new ones with it: to half the size, for the same time."
        ),
    ] = True
    compact_below_percent: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="A pack of which less than this is live is rewritten while the server "
            "runs. 0: never by itself (`postroad packs compact` does it).",
        ),
    ] = 60
    compact_octets_per_second: Annotated[
        int, Meta(ge=1 << 16, description="Reading and writing of that, together.")
    ] = 8 << 20
    compact_age_s: Annotated[
        int, Meta(ge=60, description="A pack that changed within this time is left alone.")
    ] = 3600
    master_key: Annotated[
        str,
        Meta(
            description="The key of the keys of encrypted accounts: a file (made by `postroad "
            "account encrypt key`), `credential:NAME` for one that systemd hands over "
            "(LoadCredential=), or `env:NAME` for the name of an environment variable that holds "
            "it. Empty: no account is encrypted. Keep a copy elsewhere: without it their mail is "
            "lost."
        ),
    ] = ""


class Search(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The index that makes searching fast. Without it every answer is the same, later."""

    index: Annotated[
        bool,
        Meta(
            description="Build every account's index in the background, some 200 us of a "
            "processor and 1 to 2 KB of disk for each message. What is there is used in any case; "
            "`postroad index` shows and removes it."
        ),
    ] = True


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds an operator may set; the others are in docs/limits.md with their reasons."""

    message_octets: Annotated[
        int,
        Meta(ge=65536, le=1 << 31, description="The largest message taken, in octets."),
    ] = limits.MESSAGE_OCTETS_MAX_DEFAULT
    recipients: Annotated[
        int,
        Meta(ge=100, le=100_000, description="Recipients of one message (RFC 5321: 100 at least)."),
    ] = limits.SMTP_RECIPIENTS_MAX
    connections: Annotated[
        int, Meta(ge=1, description="Open connections of each service, in each worker.")
    ] = 20_000
    connections_per_address: Annotated[
        int,
        Meta(
            ge=1,
            description="The same from one address; loopback is exempt. A provider's NAT or a "
            "mail program with many folders stays below the default, a flood does not.",
        ),
    ] = 50


class Log(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What goes to stderr. One event, one line; passwords and mail never."""

    format: Annotated[
        Literal["text", "json"], Meta(description="`text` is for people, `json` for machines.")
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least level that is written."),
    ] = "info"


class Config(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All of it. Paths are absolute once `load` has returned."""

    server: Server
    listen: Listen = Listen()
    tls: TLS = TLS()
    auth: Auth = Auth()
    oauth: OAuth = OAuth()
    dns: DNS = DNS()
    delivery: Delivery = Delivery()
    accounts: Accounts = Accounts()
    storage: Storage = Storage()
    search: Search = Search()
    limits: Limits = Limits()
    log: Log = Log()

    @property
    def data_dir(self) -> Path:
        return Path(self.server.data_dir)

    @property
    def workers(self) -> int:
        if self.server.workers is not None:
            return self.server.workers
        cores = len(os.sched_getaffinity(0))
        return 0 if cores == 1 else min(cores, 8)

    def ports(self) -> dict[str, int]:
        """Service to port, offset added; services that are switched off are absent."""
        return {
            name: port + self.listen.port_offset
            for name in SERVICES
            if (port := getattr(self.listen, name))
        }


SERVICES = ("smtp", "submission", "submissions", "imap", "imaps", "pop3", "pop3s")


def locate(given: str | None) -> Path:
    """The file to read: the one given, or POSTROAD_CONFIG, or ./postroad.toml.

    Raises: ConfigError when there is none.
    """
    path = Path(given or os.environ.get(ENVIRONMENT) or DEFAULT_FILE)
    if path.is_dir():
        path /= DEFAULT_FILE
    if not path.is_file():
        raise ConfigError(
            str(path),
            [
                "no such file. Name your configuration with -c or POSTROAD_CONFIG, "
                "or make one: postroad init DIR --domain example.org"
            ],
        )
    return path


def load(path: Path) -> Config:
    """Raises: ConfigError with everything that is wrong, as far as it can be told at once."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read: {error}"]) from error
    return parse(text, path.resolve())


def parse(text: str, path: Path) -> Config:
    """path: of the file, where relative paths start and what errors name. Raises: ConfigError."""
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(path), [f"not TOML: {error}"]) from error
    if problems := _unknown_keys(tree):
        raise ConfigError(str(path), problems)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(str(path), [_readable(str(error))]) from error
    if problems := list(_contradictions(config)):
        raise ConfigError(str(path), problems)
    return _absolute(config, path.parent)


def sections() -> dict[str, type[Struct]]:
    """Section name to its struct, in the order of the file."""
    return {field.name: field.type for field in msgspec.structs.fields(Config)}


def _unknown_keys(tree: dict[str, Any]) -> list[str]:
    problems = []
    known = sections()
    for name, section in tree.items():
        if name not in known:
            problems.append(f"unknown section [{name}]{_nearest(name, list(known))}")
            continue
        if not isinstance(section, dict):
            problems.append(f"[{name}] must be a section, not a value")
            continue
        keys = [field.name for field in msgspec.structs.fields(known[name])]
        for key in section:
            if key not in keys:
                problems.append(f"unknown key [{name}] {key}{_nearest(key, keys)}")
    return problems


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f". Did you mean {close[0]!r}?" if close else f". Known are: {', '.join(known)}"


def _readable(message: str) -> str:
    """msgspec's "... - at `$.listen.smtp`" with the path in front, as the file writes it."""
    if found := re.fullmatch(r"(.*) - at `\$\.(\w+)(?:\.(\w+))?(.*)`", message):
        key = f" {found[3]}" if found[3] else ""
        return f"[{found[2]}]{key}: {found[1]}"
    if found := re.fullmatch(r"Object missing required field `(\w+)`", message):
        return f"the section [{found[1]}] is missing"
    return message


def _contradictions(config: Config) -> list[str]:
    problems = []
    if "." not in config.server.hostname or not is_domain(config.server.hostname):
        problems.append(
            f"[server] hostname: {config.server.hostname!r} is not a full host name "
            "like mx.example.org"
        )
    for address in config.listen.addresses:
        if not _is_ip(address):
            problems.append(f"[listen] addresses: {address!r} is not an IP address")
    ports = config.ports()
    if not ports:
        problems.append("[listen] every port is 0: nothing would be served")
    for name, port in ports.items():
        if port > 65535:
            problems.append(f"[listen] {name}: with port_offset it is {port}, above 65535")
        twins = [other for other in ports if ports[other] == port]
        if twins[0] != name:
            problems.append(f"[listen] {name}: {twins[0]} has port {port} too")
    for server in config.dns.nameservers:
        try:
            parse_nameserver(server)
        except ValueError as error:
            problems.append(f"[dns] nameservers: {error}")
    issuer = config.oauth.issuer
    if issuer and not re.match(r"https://[^/]|http://(localhost|127\.0\.0\.1|\[::1\])[:/]", issuer):
        problems.append(f"[oauth] issuer: {issuer!r} is not an https:// URL")
    if bool(config.oauth.client_id) != bool(config.oauth.client_secret_file):
        problems.append("[oauth] client_id and client_secret_file belong together")
    if config.server.group and not config.server.user:
        problems.append("[server] group is set without user")
    return problems


def parse_nameserver(text: str) -> tuple[str, int]:
    """Address and port from `1.2.3.4`, `1.2.3.4:53`, `::1` or `[::1]:53`. Raises: ValueError."""
    address, port = text, "53"
    if found := re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?|([^:]+)(?::(\d{1,5}))?", text):
        address = found[1] or found[3]
        port = found[2] or found[4] or "53"
    if not _is_ip(address) or not 1 <= int(port) <= 65535:
        raise ValueError(f'{text!r} is not an IP address like "127.0.0.1" or "[::1]:5353"')
    return address, int(port)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _below(folder: Path, name: str) -> str:
    return str(folder / name) if name else ""


def _absolute(config: Config, folder: Path) -> Config:
    replace = msgspec.structs.replace
    return replace(
        config,
        server=replace(config.server, data_dir=str(folder / config.server.data_dir)),
        tls=replace(
            config.tls,
            certificate=str(folder / config.tls.certificate),
            key=str(folder / config.tls.key),
            client_authorities=_below(folder, config.tls.client_authorities),
        ),
        oauth=replace(
            config.oauth, client_secret_file=_below(folder, config.oauth.client_secret_file)
        ),
    )


def _key_path(source: str, folder: Path) -> str:
    return source if not source or source.startswith(KEY_SOURCES) else str(folder / source)
