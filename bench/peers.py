"""Debian's postfix and dovecot with configurations of their own, on loopback, fsync on.

Nothing of /etc is touched. Needs root, as postfix's master does.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

MAIL_UID = "mail"


def installed() -> bool:
    return (
        os.geteuid() == 0
        and shutil.which("postfix", path="/usr/sbin") is not None
        and shutil.which("dovecot", path="/usr/sbin") is not None
        and Path("/usr/lib/dovecot/lmtp").exists()
    )


def wait_port(address: str, port: int, timeout_s: float = 20) -> None:
    end = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Dovecot:
    """imap, imaps, pop3 and lmtp (a unix socket) over Maildirs below `directory`/mail."""

    def __init__(self, directory: Path, *, imap: int, imaps: int, pop3: int, certificate: Path,
                 key: Path, address: str = "127.0.0.1") -> None:  # fmt: skip
        self.directory, self.imap, self.imaps, self.pop3 = directory, imap, imaps, pop3
        self.address = address
        directory.mkdir(parents=True)
        directory.chmod(0o755)
        self.mail = directory / "mail"
        self.mail.mkdir()
        owner = pwd.getpwnam(MAIL_UID)
        os.chown(self.mail, owner.pw_uid, owner.pw_gid)
        self.lmtp = directory / "lmtp.sock"
        self.config = directory / "dovecot.conf"
        self.config.write_text(f"""\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
protocols = imap pop3 lmtp
listen = {address}
ssl = yes
ssl_cert = <{certificate}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain
mail_fsync = always
mail_location = maildir:{self.mail}/%n
mail_uid = {owner.pw_uid}
mail_gid = {owner.pw_gid}
first_valid_uid = 1
login_trusted_networks = 127.0.0.0/8
mail_max_userip_connections = 100000
default_process_limit = 2000
default_client_limit = 5000
passdb {{
  driver = static
  args = password=bench
}}
userdb {{
  driver = static
  args = uid={owner.pw_uid} gid={owner.pw_gid} home={self.mail}/%n allow_all_users=yes
}}
service anvil {{
  client_limit = 10000
}}
service imap-login {{
  service_count = 0
  process_min_avail = 2
  client_limit = 4000
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = {imaps}
    ssl = yes
  }}
}}
service imap {{
  process_limit = 3000
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener {self.lmtp} {{
    mode = 0666
  }}
}}
protocol lmtp {{
  auth_username_format = %Ln
}}
""")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        began = time.monotonic()
        self.process = subprocess.Popen(
            ["/usr/sbin/dovecot", "-F", "-c", str(self.config)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_port(self.address, self.imap)
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None


class Postfix:
    """smtpd on one port; local domains go to dovecot's LMTP or everything to a relay host."""

    def __init__(self, directory: Path, *, port: int, domains: list[str], lmtp: Path | None = None,
                 relayhost: str = "", address: str = "127.0.0.1",
                 extra: str = "") -> None:  # fmt: skip
        self.directory, self.port, self.address = directory, port, address
        etc, queue, data = directory / "etc", directory / "queue", directory / "data"
        for path in (etc, queue, data):
            path.mkdir(parents=True)
        directory.chmod(0o755)
        owner = pwd.getpwnam("postfix")
        os.chown(data, owner.pw_uid, -1)
        self.etc = etc
        transport = f"virtual_transport = lmtp:unix:{lmtp}\n" if lmtp else ""
        (etc / "main.cf").write_text(f"""\
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.bench.example
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtp_bind_address = {address}
virtual_mailbox_domains = {" ".join(domains)}
{transport}relayhost = {relayhost}
alias_maps =
alias_database =
local_recipient_maps =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtp_destination_concurrency_limit = 50
maillog_file = {directory}/postfix.log
maillog_file_prefixes = {directory}
syslog_name = bench
{extra}
""")
        (etc / "master.cf").write_text(f"""\
{address}:{port} inet n - n - 100 smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
""")

    def start(self, wrap: list[str] | None = None) -> float:
        """wrap: a command to start it within, as for another /etc/resolv.conf."""
        began = time.monotonic()
        command = [*(wrap or []), "/usr/sbin/postfix", "-c", str(self.etc), "start"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            log = self.directory / "postfix.log"
            told = log.read_text() if log.exists() else ""
            raise RuntimeError(f"postfix does not start: {done.stderr}{told}")
        wait_port(self.address, self.port)
        return time.monotonic() - began

    @property
    def pid(self) -> int:
        return int((self.directory / "queue/pid/master.pid").read_text())

    def queued(self) -> int:
        """Messages not yet delivered."""
        total = 0
        for name in ("incoming", "active", "deferred", "maildrop"):
            for _, _, files in os.walk(self.directory / "queue" / name):
                total += len(files)
        return total

    def stop(self) -> None:
        subprocess.run(
            ["/usr/sbin/postfix", "-c", str(self.etc), "stop"], capture_output=True, timeout=60
        )
