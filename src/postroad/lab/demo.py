"""The demo: two real Postroad servers of different domains, and mail that travels between them.

Everything is on loopback: the lab's DNS, two server processes, one peer that greylists. Messages
are sent with the standard library's smtplib and read with its imaplib and poplib. Each step is
printed with its time; the octets that arrive are compared with those that were sent.

Exit code 0 when every step did what it should, 1 with the name of the step that did not.
"""

from __future__ import annotations

import hashlib
import imaplib
import json
import poplib
import re
import shutil
import smtplib
import ssl
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path
from typing import Any

from rich.console import Console

from postroad.lab.internet import Lab
from postroad.lab.peers import Behaviour
from postroad.lab.process import PostroadServer, ServerFailed, free_offset

ONE, TWO = "127.0.0.2", "127.0.0.3"
GREYLISTER = "three.example"
PASSWORDS = {
    "alice@one.example": "correct horse",
    "bob@two.example": "battery staple",
    "bøb@two.example": "ånd så videre",
}
WAIT_S = 30.0
_ACCEPTED = re.compile(rb"Accepted as ([0-9a-z]{16})")


class StepFailed(Exception):
    """A step did not do what it should."""


class Timeline:
    """Prints what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.began = time.monotonic()
        self.step = "starting"

    def head(self, text: str) -> None:
        self.step = text
        self.console.print(f"\n[bold]{self._at()}  {text}[/bold]", markup=True)

    def line(self, text: str) -> None:
        self.console.print(f"{self._at()}    ", end="", markup=False)
        self.console.print(text, markup=False)

    def good(self, text: str) -> None:
        self.console.print(f"{self._at()}    [green]✓[/green] ", end="")
        self.console.print(text, markup=False)

    def _at(self) -> str:
        return f"{time.monotonic() - self.began:7.2f}s"


@dataclass(slots=True)
class Stage:
    """What the steps share."""

    lab: Lab
    one: PostroadServer
    two: PostroadServer
    say: Timeline

    def tls(self, server: PostroadServer) -> ssl.SSLContext:
        """Trusts that server's own certificate and nothing else."""
        context = ssl.create_default_context(cafile=str(server.directory / "tls" / "cert.pem"))
        context.check_hostname = False
        return context


def submit(
    stage: Stage, octets: bytes, to: str, *, starttls: bool = False, options: tuple[str, ...] = ()
) -> str:
    """alice sends; returns the id of the 250 reply. options: of MAIL."""
    sender = "alice@one.example"
    context = stage.tls(stage.one)
    client: smtplib.SMTP
    if starttls:
        client = smtplib.SMTP(ONE, stage.one.port("submission"), "client.one.example", 30)
        client.starttls(context=context)
    else:
        port = stage.one.port("submissions")
        client = smtplib.SMTP_SSL(ONE, port, "client.one.example", timeout=30, context=context)
    with client:
        client.login(sender, PASSWORDS[sender])
        if "SMTPUTF8" in options:
            client.command_encoding = "utf-8"
        for what, (code, text) in (
            ("MAIL", client.mail(sender, list(options))),
            ("RCPT", client.rcpt(to)),
            ("DATA", client.data(octets)),
        ):
            if code != 250:
                raise StepFailed(f"{what} was answered {code} {text.decode(errors='replace')}")
    accepted = _ACCEPTED.search(text)
    if accepted is None:
        raise StepFailed(f"no message id in {text!r}")
    stage.say.line(f"250 from one.example: {text.decode()}")
    return accepted[1].decode()


def imap_login(stage: Stage, server: PostroadServer, user: str) -> imaplib.IMAP4:
    address = server.address
    client = imaplib.IMAP4_SSL(
        address, server.port("imaps"), ssl_context=stage.tls(server), timeout=30
    )
    if user.isascii():
        client.login(user, PASSWORDS[user])
    else:
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{PASSWORDS[user]}".encode())
    return client


def until(what: str, look: Callable[[], Any]) -> Any:
    """What `look` finds, as soon as it finds something. Raises: StepFailed."""
    end = time.monotonic() + WAIT_S
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise StepFailed(f"waited {WAIT_S:.0f} s in vain for {what}")
        time.sleep(0.05)


def fetch(stage: Stage, server: PostroadServer, user: str, marker: bytes) -> bytes:
    """Waits by IMAP for the message that holds `marker`, and returns all its octets."""

    def look() -> bytes | None:
        client = imap_login(stage, server, user)
        try:
            client.select("INBOX", readonly=True)
            _, numbers = client.search(None, "ALL")
            for number in reversed(numbers[0].split()):
                _, data = client.fetch(number.decode(), "(BODY.PEEK[])")
                item = data[0]
                if isinstance(item, tuple) and marker in item[1]:
                    octets: bytes = item[1]
                    return octets
        finally:
            client.logout()
        return None

    return bytes(until(f"{user}'s mail", look))


def compare(stage: Stage, sent: bytes, got: bytes) -> bytes:
    """The octets that were sent must stand at the end of those fetched; returns what is on top."""
    if not got.endswith(sent):
        raise StepFailed("the fetched octets are not those that were sent")
    digest = hashlib.sha256(got[-len(sent) :]).hexdigest()[:16]
    stage.say.good(f"the {len(sent):,} octets fetched are those that were sent (sha256 {digest}…)")
    return got[: -len(sent)]


def verdicts(stage: Stage, head: bytes) -> None:
    """two.example's Authentication-Results must say pass three times."""
    unfolded = re.sub(rb"\r\n[ \t]+", b" ", head)
    line = re.search(rb"(?m)^Authentication-Results: (mx\.two\.example;.*?)\r$", unfolded)
    if line is None:
        raise StepFailed("no Authentication-Results of two.example")
    text = line[1].decode()
    for part in text.split("; ")[1:]:
        stage.say.line(f"  {part}")
    for method in ("spf", "dkim", "dmarc"):
        if f"{method}=pass" not in text:
            raise StepFailed(f"{method} did not pass: {text}")
    if text.count("dkim=pass") != 2:
        raise StepFailed(f"the two DKIM signatures did not both pass: {text}")
    stage.say.good("SPF, DKIM (Ed25519 and RSA-2048) and DMARC pass at two.example")


def history(stage: Stage, server: PostroadServer, message: str) -> None:
    """What `postroad message trace` tells of it."""
    records = json.loads(server.run("message", "trace", message, "--json"))
    stage.say.line(f"postroad message trace {message}  (on {server.directory.name})")
    for record in records:
        details = record.get("details", {})
        shown = [
            f"{key}={details[key]}"
            for key in ("recipients", "hosts", "host", "reply", "tls", "until", "reason", "action")
            if key in details
        ]
        stage.say.line(f"  {record['at']}  {record['event']}  {'  '.join(shown)}"[:200])


def letter(subject: str, to: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = "Alice <alice@one.example>"
    message["To"] = to
    message["Subject"] = subject
    message["Date"] = "Mon, 02 Nov 2026 10:00:00 +0000"
    message["Message-ID"] = f"<{hashlib.sha256(subject.encode()).hexdigest()[:16]}@one.example>"
    return message


# -- the steps -----------------------------------------------------------------------------------


def plain(stage: Stage) -> None:
    message = letter("A plain message", "bob@two.example")
    message.set_content("Dear Bob,\n\n.a line with a leading dot\n..\n.\n\nyours, Alice\n")
    octets = message.as_bytes()
    id = submit(stage, octets, "bob@two.example", starttls=True)
    got = fetch(stage, stage.two, "bob@two.example", b"Subject: A plain message")
    verdicts(stage, compare(stage, octets, got))
    history(stage, stage.one, id)
    there = re.search(rb"by mx\.two\.example with \S+(?:\s+\([^)]*\))?\s+id ([0-9a-z]{16})", got)
    if there is None:
        raise StepFailed("no Received field of two.example")
    history(stage, stage.two, there[1].decode())


def attachment(stage: Stage) -> None:
    message = letter("Tables, with an attachment", "bob@two.example")
    message.set_content("See the table.\n")
    message.add_alternative("<p>See the <b>table</b>.</p>\n", subtype="html")
    message.add_attachment(b"a;b\n1;2\n", maintype="text", subtype="csv", filename="t.csv")
    octets = message.as_bytes()
    submit(stage, octets, "bob@two.example")
    got = fetch(stage, stage.two, "bob@two.example", b"Subject: Tables, with an attachment")
    compare(stage, octets, got)


def international(stage: Stage) -> None:
    message = letter("Grüße aus Århus – Ωμέγα", "bøb@two.example").as_string(
        policy=SMTPUTF8.clone(cte_type="8bit")
    )
    octets = message.replace("\r\n\r\n", "\r\n\r\nsmørrebrød\r\n", 1).encode()
    octets = octets.replace(
        b"\r\n\r\n",
        b"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n",
        1,
    )
    if "Grüße".encode() not in octets:
        raise StepFailed("the header should hold raw UTF-8")
    submit(stage, octets, "bøb@two.example", options=("SMTPUTF8", "BODY=8BITMIME"))
    got = fetch(stage, stage.two, "bøb@two.example", "smørrebrød".encode())
    verdicts(stage, compare(stage, octets, got))


def large(stage: Stage) -> None:
    message = letter("Five megabytes", "bob@two.example")
    message.set_content("A photograph.\n")
    photograph = hashlib.shake_256(b"photograph").digest(3_700_000)
    message.add_attachment(photograph, maintype="image", subtype="jpeg", filename="photo.jpg")
    octets = message.as_bytes()
    stage.say.line(f"{len(octets):,} octets")
    submit(stage, octets, "bob@two.example")
    got = fetch(stage, stage.two, "bob@two.example", b"Subject: Five megabytes")
    compare(stage, octets, got)


def two_devices(stage: Stage) -> None:
    """IMAP from two devices with flags kept; POP3 reads the same octets."""
    bob = "bob@two.example"
    phone, laptop = (imap_login(stage, stage.two, bob) for _ in range(2))
    phone.select("INBOX")
    phone.store("1", "+FLAGS", r"(\Flagged \Seen)")
    laptop.select("INBOX")
    _, data = laptop.fetch("1", "(FLAGS)")
    if not isinstance(data[0], bytes) or rb"\Flagged" not in data[0]:
        raise StepFailed(f"the laptop does not see the phone's flag: {data!r}")
    stage.say.good(r"the phone's \Seen and \Flagged are seen by the laptop")
    _, whole = laptop.fetch("1", "(BODY.PEEK[])")
    phone.logout()
    laptop.logout()
    pop = poplib.POP3(TWO, stage.two.port("pop3"), timeout=30)
    pop.stls(stage.tls(stage.two))
    pop.user(bob)
    pop.pass_(PASSWORDS[bob])
    count, _ = pop.stat()
    octets = b"".join(line + b"\r\n" for line in pop.retr(1)[1])
    pop.quit()
    if not isinstance(whole[0], tuple) or octets != whole[0][1]:
        raise StepFailed("POP3 and IMAP give different octets")
    stage.say.good(f"POP3 (STLS) lists {count} messages and gives the octets that IMAP gives")


def greylisted(stage: Stage) -> None:
    message = letter("To a server that greylists", f"carol@{GREYLISTER}")
    message.set_content("Patience.\n")
    octets = message.as_bytes()
    id = submit(stage, octets, f"carol@{GREYLISTER}")
    peer = stage.lab.hosts[f"mx.{GREYLISTER}"].peer
    got = peer.wait_for(1, WAIT_S)[0]
    said = [line for dialog in peer.dialogs for who, line in dialog if who == "S"]
    deferred = next((line.decode() for line in said if line.startswith(b"451")), None)
    if deferred is None:
        raise StepFailed("the peer did not greylist")
    stage.say.line(f"first attempt: {deferred}")
    if not got.octets.endswith(octets):
        raise StepFailed("the peer received other octets")
    stage.say.good(f"accepted on retry, over {got.tls.version if got.tls else 'plaintext'}")
    until("the settlement", lambda: "Delivered" in stage.one.run("message", "trace", id, "--json"))
    history(stage, stage.one, id)


def bounced(stage: Stage) -> None:
    message = letter("To somebody who is not there", "nobody@two.example")
    message.set_content("Is anybody home?\n")
    id = submit(stage, message.as_bytes(), "nobody@two.example")
    report = fetch(stage, stage.one, "alice@one.example", b"multipart/report")
    for needed in (b"Action: failed", b"Status: 5.1.1", b"nobody@two.example"):
        if needed not in report:
            raise StepFailed(f"the report lacks {needed.decode()}")
    for line in report.split(b"\r\n"):
        if line.startswith((b"Subject:", b"Final-Recipient:", b"Action:", b"Status:", b"Diag")):
            stage.say.line(f"  {line.decode(errors='replace')}")
    stage.say.good("the hard bounce is in alice's inbox as a delivery status notification")
    history(stage, stage.one, id)


def no_relay(stage: Stage) -> None:
    with smtplib.SMTP(TWO, stage.two.port("smtp"), "stranger.example", 30) as client:
        client.ehlo()
        client.mail("stranger@nowhere.example")
        code, text = client.rcpt("victim@elsewhere.example")
        if code != 550:
            raise StepFailed(f"a stranger may relay: {code} {text!r}")
        stage.say.good(f"a stranger who wants to relay: {code} {text.decode()}")
        code, text = client.rcpt("nobody@two.example")
        if code != 550:
            raise StepFailed(f"an unknown recipient was not refused at RCPT: {code}")
        stage.say.good(f"a recipient who is nobody: {code} {text.decode()}")


STEPS: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("plain text by 587 and STARTTLS, alice → bob", plain),
    ("multipart with an attachment by 465", attachment),
    ("UTF-8 in header and address (SMTPUTF8)", international),
    ("five megabytes", large),
    ("bob reads from two devices by IMAP, and by POP3", two_devices),
    ("a peer that greylists: deferred, then delivered", greylisted),
    ("a recipient who does not exist: a hard bounce", bounced),
    ("strangers", no_relay),
)


def build(directory: Path, say: Timeline, lab: Lab, offset: int) -> Stage:
    """Makes both servers, publishes what they ask for, starts them."""
    made = []
    for domain, address in (("one.example", ONE), ("two.example", TWO)):
        server = PostroadServer(directory / domain, address=address, offset=offset)
        server.init(
            domain,
            workers=2 if domain == "two.example" else 0,
            nameservers=[lab.nameserver],
            delivery_port=lab.port,
            options=[("delivery", "retry_schedule_s", "[1, 2, 4]")],
        )
        lab.dns.load(server.run("domain", "dns", domain))
        made.append(server)
        say.line(f"{domain}: made, its DNS records published in the lab's DNS")
    for address, password in PASSWORDS.items():
        server = made[0] if address.endswith("@one.example") else made[1]
        server.add_account(address, password)
    for server in made:
        seconds = server.start()
        say.line(f"{server.directory.name}: ready on {server.address} after {seconds:.2f} s")
    lab.domain(GREYLISTER, Behaviour(greylist=True))
    return Stage(lab, made[0], made[1], say)


def main() -> int:
    say = Timeline()
    directory = Path(tempfile.mkdtemp(prefix="postroad-demo-"))
    stage: Stage | None = None
    offset = free_offset(ONE, TWO)
    try:
        with Lab(port=offset + 25, first_host=4) as lab:
            try:
                say.head("two servers and a DNS of their own, on loopback")
                stage = build(directory, say, lab, offset)
                for name, step in STEPS:
                    say.head(name)
                    step(stage)
                say.head("both servers stop, every checksum and reference is verified")
                for server in (stage.one, stage.two):
                    code = server.stop()
                    if code != 0:
                        raise StepFailed(f"{server.directory.name} ended with {code}")
                    server.run("verify")
                    say.good(f"{server.directory.name}: stopped cleanly, verified")
            finally:
                for server in (stage.one, stage.two) if stage else ():
                    server.stop()
    except (StepFailed, ServerFailed, OSError, TimeoutError, smtplib.SMTPException) as error:
        return failed(say, stage, error)
    except (imaplib.IMAP4.error, poplib.error_proto) as error:
        return failed(say, stage, error)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    say.console.print("\n[bold green]The road is open: every step did what it should.[/bold green]")
    return 0


def failed(say: Timeline, stage: Stage | None, error: Exception) -> int:
    say.console.print(f"\n[bold red]Failed at: {say.step}[/bold red]")
    say.console.print(f"{type(error).__name__}: {error}", markup=False)
    for server in (stage.one, stage.two) if stage else ():
        say.console.print(f"\nthe end of {server.directory.name}'s log:", markup=False)
        say.console.print(server.log_end(), markup=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
