"""Sharing with IMAPClient and imaplib, over TLS and two workers: rights, quotas, news."""

from __future__ import annotations

import imaplib
import ssl
from pathlib import Path

import pytest
from imapclient import SEEN, IMAPClient  # type: ignore[import-untyped]

from postroad.lab.process import PostroadServer
from support.mail import plain

pytestmark = pytest.mark.interop

ANN, BOB = "sharing-ann@x.example", "sharing-bob@x.example"
WORK = f"Users/{ANN}/Work"


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(certificate))
    made.check_hostname = False
    return made


@pytest.fixture(scope="module")
def people(server: PostroadServer) -> PostroadServer:
    for user in (ANN, BOB):
        server.add_account(user, "together")
    return server


def client(server: PostroadServer, context: ssl.SSLContext, user: str) -> IMAPClient:
    made = IMAPClient("127.0.0.1", server.port("imaps"), ssl=True, ssl_context=context, timeout=30)
    made.login(user, "together")
    return made


def test_two_people_and_one_mailbox(people: PostroadServer, context: ssl.SSLContext) -> None:
    with client(people, context, ANN) as ann, client(people, context, BOB) as bob:
        assert {b"ACL", b"RIGHTS=TEXK", b"QUOTA", b"METADATA", b"NAMESPACE"} <= set(
            ann.capabilities()
        )
        personal, others, shared = bob.namespace()
        assert (personal, others, shared) == (
            (("", "/"),), (("Users/", "/"),), (("Shared/", "/"),),
        )  # fmt: skip
        ann.create_folder("Work")
        ann.append("Work", plain("together", to=ANN))
        assert not bob.folder_exists(WORK)
        ann.setacl("Work", BOB, "lrsw")
        acl = dict(ann.getacl("Work"))
        assert acl[BOB.encode()] == b"lrsw" and b"a" in acl[ANN.encode()]
        assert bob.folder_exists(WORK)
        assert WORK in [name for _, _, name in bob.list_folders("Users/", "*")]

        bob.select_folder(WORK)
        ann.select_folder("Work")
        bob.add_flags([1], [SEEN, b"\\Flagged"])
        ann.noop()
        assert set(ann.get_flags([1])[1]) - {b"\\Recent"} == {b"\\Flagged"}
        assert SEEN in bob.get_flags([1])[1]
        assert ann.folder_status("Work", ["UNSEEN"])[b"UNSEEN"] == 1
        assert bob.folder_status(WORK, ["UNSEEN"])[b"UNSEEN"] == 0

        bob.idle()
        ann.append("Work", plain("more", to=ANN))
        assert (2, b"EXISTS") in bob.idle_check(timeout=10), "across workers too"
        bob.idle_done()
        root, quotas = bob.get_quota_root(WORK)
        assert root.quota_roots == [ANN] and quotas == []
        ann._imap.deleteacl("Work", BOB)
        with pytest.raises(Exception, match=r"no longer read|BYE|socket|EOF|abort"):
            for _ in range(3):
                bob.noop()
        ann.unselect_folder()
        ann.delete_folder("Work")


def test_imaplib_reads_every_answer(people: PostroadServer, context: ssl.SSLContext) -> None:
    with imaplib.IMAP4_SSL("127.0.0.1", people.port("imaps"), ssl_context=context) as one:
        one.login(ANN, "together")
        assert one.setacl("INBOX", BOB, "lr")[0] == "OK"
        kind, [acl] = one.getacl("INBOX")
        assert kind == "OK" and acl is not None and b" %b lr" % BOB.encode() in acl
        assert one.myrights("INBOX")[1] == [b'"INBOX" lrswipkxteacd']
        assert one.deleteacl("INBOX", BOB)[0] == "OK"
        assert one.getquotaroot("INBOX")[0] == "OK"
        assert one.getquota(ANN)[1] == [ANN.encode() + b" ()"]
        assert one.setquota(ANN, "(STORAGE 512)")[0] == "NO"
        assert one.namespace()[1] == [b'(("" "/")) (("Users/" "/")) (("Shared/" "/"))']
