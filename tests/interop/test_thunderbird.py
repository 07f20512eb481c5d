"""Thunderbird itself, on a screen nobody sees: account, synchronisation, reading, flags, moving,
searching on the server, and mail that arrives while it waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.marionette import Screen, Thunderbird
from support.programs import needs
from support.raw_imap import RawClient
from support.world import World

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(240),
    needs("thunderbird", "thunderbird"),
    needs("Xvfb", "xvfb"),
]

USER, PASSWORD = "ann@thunderbird.example", "ann secret"
TEXT = (
    b"From: Bob <bob@x.example>\r\nTo: ann@thunderbird.example\r\nSubject: letter %d\r\n"
    b"Date: Mon, 23 Nov 2026 10:%02d:00 +0200\r\nMessage-ID: <%d@x.example>\r\n\r\n%b\r\n"
)

ADD_ACCOUNT = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const [user, password, port, secure] = args;
const server = MailServices.accounts.createIncomingServer(user, "127.0.0.1", "imap");
server.port = port;
server.socketType = secure ? Ci.nsMsgSocketType.SSL : Ci.nsMsgSocketType.plain;
server.authMethod = Ci.nsMsgAuthMethod.passwordCleartext;
server.password = password;
const account = MailServices.accounts.createAccount();
const identity = MailServices.accounts.createIdentity();
identity.email = user;
account.incomingServer = server;
account.addIdentity(identity);
globalThis.tb = {
  MailServices, server,
  wait(check, what) {
    return new Promise((resolve, reject) => {
      const end = Date.now() + 40000;
      const look = () => {
        let found;
        try { found = check(); } catch (error) { reject(error); return; }
        if (found) resolve(found);
        else if (Date.now() > end) reject(new Error("waited in vain for " + what));
        else Services.tm.mainThread && setTimeout(look, 50);
      };
      look();
    });
  },
  folder(name) {
    return server.rootFolder.descendants.find(folder => folder.name == name ||
      folder.URI.endsWith("/" + name));
  },
  update(folder) {
    return new Promise((resolve, reject) => {
      folder.QueryInterface(Ci.nsIMsgImapMailFolder).updateFolderWithListener(null, {
        QueryInterface: ChromeUtils.generateQI(["nsIUrlListener"]),
        OnStartRunningUrl() {},
        OnStopRunningUrl(url, code) { code ? reject(new Error("code " + code)) : resolve(); },
      });
    });
  },
};
const {setTimeout} = ChromeUtils.importESModule("resource://gre/modules/Timer.sys.mjs");
globalThis.setTimeout = setTimeout;
server.performExpand(null);
await tb.wait(() => tb.folder("INBOX") && tb.folder("Sent"), "the folders");
return server.rootFolder.descendants.map(folder => folder.URI.split("/").slice(3).join("/"));
"""
TRUST = """
const overrides = Cc["@mozilla.org/security/certoverride;1"].getService(
  Ci.nsICertOverrideService);
const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
overrides.rememberValidityOverride("127.0.0.1", args[1], {},
  database.constructX509FromBase64(args[0]), false);
return true;
"""
LIST = """
const folder = tb.folder(args[0]);
await tb.update(folder);
const found = [...folder.messages].map(each => [each.mime2DecodedSubject, each.isRead,
  each.isFlagged, each.messageKey]);
return found.sort((one, other) => one[3] - other[3]);
"""
READ = """
const folder = tb.folder(args[0]);
const header = [...folder.messages].find(each => each.mime2DecodedSubject == args[1]);
const uri = folder.getUriForMsg(header);
const service = tb.MailServices.messageServiceFromURI(uri);
const stream = Cc["@mozilla.org/network/sync-stream-listener;1"].createInstance(
  Ci.nsISyncStreamListener);
const text = await new Promise((resolve, reject) => {
  const parts = [];
  service.streamMessage(uri, {
    QueryInterface: ChromeUtils.generateQI(["nsIStreamListener"]),
    onStartRequest() {},
    onDataAvailable(request, input, offset, count) {
      const reader = Cc["@mozilla.org/scriptableinputstream;1"].createInstance(
        Ci.nsIScriptableInputStream);
      reader.init(input);
      parts.push(reader.readBytes(count));
    },
    onStopRequest(request, code) { code ? reject(new Error("code " + code))
      : resolve(parts.join("")); },
  }, null, null, false, "");
});
return text;
"""
FLAG = """
const folder = tb.folder(args[0]);
const header = [...folder.messages].find(each => each.mime2DecodedSubject == args[1]);
folder.markMessagesRead([header], true);
folder.markMessagesFlagged([header], true);
return true;
"""
MOVE = """
const [from, to] = [tb.folder(args[0]), tb.folder(args[1])];
const header = [...from.messages].find(each => each.mime2DecodedSubject == args[2]);
await new Promise((resolve, reject) => {
  tb.MailServices.copy.copyMessages(from, [header], to, true, {
    QueryInterface: ChromeUtils.generateQI(["nsIMsgCopyServiceListener"]),
    onStartCopy() {}, onProgress() {}, setMessageKey() {}, getMessageId() { return null; },
    onStopCopy(code) { code ? reject(new Error("code " + code)) : resolve(); },
  }, null, false);
});
return true;
"""
SEARCH = """
const session = Cc["@mozilla.org/messenger/searchSession;1"].createInstance(
  Ci.nsIMsgSearchSession);
const term = session.createTerm();
term.attrib = args[1] == "body" ? Ci.nsMsgSearchAttrib.Body : Ci.nsMsgSearchAttrib.Subject;
term.op = Ci.nsMsgSearchOp.Contains;
const value = term.value;
value.attrib = term.attrib;
value.str = args[2];
term.value = value;
session.appendTerm(term);
session.addScopeTerm(Ci.nsMsgSearchScope.onlineMail, tb.folder(args[0]));
return await new Promise((resolve, reject) => {
  const found = [];
  session.registerListener({
    QueryInterface: ChromeUtils.generateQI(["nsIMsgSearchNotify"]),
    onSearchHit(header) { found.push(header.mime2DecodedSubject); },
    onSearchDone(code) { code ? reject(new Error("code " + code)) : resolve(found.sort()); },
    onNewSearch() {},
  }, Ci.nsIMsgSearchSession.allNotifications);
  session.search(null);
});
"""
ARRIVED = """
const folder = tb.folder(args[0]);
folder.updateFolder(null);
await tb.wait(() => [...folder.messages].some(each => each.mime2DecodedSubject == args[1]),
  "the new message");
return true;
"""


@pytest.fixture(scope="module")
def server(shared_world: World) -> Iterator[PostroadServer]:
    made = shared_world.server(
        "thunderbird.example", address="127.0.0.1", workers=2, plaintext_on_loopback=True
    )
    made.add_account(USER, PASSWORD)
    made.start()
    yield made
    assert made.stop() == 0, made.log_end()


@pytest.fixture(scope="module")
def other(server: PostroadServer) -> Iterator[RawClient]:
    """Somebody else's look at the same mailboxes."""
    with RawClient(server.port("imap")) as client:
        client.ok(f'LOGIN {USER} "{PASSWORD}"'.encode())
        for number in range(1, 21):
            word = b"walrus" if number == 7 else b"text %d" % number
            client.append(b"INBOX", TEXT % (number, number, number, word))
        client.ok(b"CREATE Projekte/Z&APw-rich")
        client.ok(b"SUBSCRIBE Projekte/Z&APw-rich")
        yield client


@pytest.fixture(scope="module")
def thunderbird(server: PostroadServer, other: RawClient) -> Iterator[Thunderbird]:
    with Screen() as screen:
        program = Thunderbird(screen.display, {"mail.server.default.check_new_mail": True})
        try:
            pem = (server.directory / "tls" / "cert.pem").read_text()
            der = "".join(line for line in pem.splitlines() if not line.startswith("-"))
            program.script(TRUST, der, server.port("imaps"))
            found = program.script(ADD_ACCOUNT, USER, PASSWORD, server.port("imaps"), True)
            assert {"INBOX", "Sent", "Drafts", "Trash"} <= set(found), found
            yield program
        except BaseException:
            print((Path(program.home) / "log").read_text(errors="replace")[-3000:])
            raise
        finally:
            program.close()


def eventually(check: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def flags_of(other: RawClient, mailbox: bytes, subject: bytes) -> bytes:
    other.ok(b"EXAMINE " + mailbox)
    for line in other.ok(b"FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[:-1]:
        if b"Subject: " + subject + b"\r\n" in line:
            return line
    return b""


def test_all_messages_are_there(thunderbird: Thunderbird) -> None:
    found = thunderbird.script(LIST, "INBOX")
    assert [entry[:3] for entry in found] == [[f"letter {n}", False, False] for n in range(1, 21)]


def test_a_message_is_read_whole(thunderbird: Thunderbird) -> None:
    thunderbird.script(LIST, "INBOX")
    assert "walrus" in thunderbird.script(READ, "INBOX", "letter 7")


def test_flags_reach_the_server(thunderbird: Thunderbird, other: RawClient) -> None:
    thunderbird.script(LIST, "INBOX")
    thunderbird.script(FLAG, "INBOX", "letter 3")
    eventually(
        lambda: all(
            flag in flags_of(other, b"INBOX", b"letter 3") for flag in (b"\\Seen", b"\\Flagged")
        ),
        "the flags",
    )
    [entry] = [each for each in thunderbird.script(LIST, "INBOX") if each[0] == "letter 3"]
    assert entry[1:3] == [True, True]


def test_flags_of_others_reach_thunderbird(thunderbird: Thunderbird, other: RawClient) -> None:
    other.ok(b"SELECT INBOX")
    other.ok(b"STORE 5 +FLAGS (\\Flagged)")
    eventually(
        lambda: any(
            each[0] == "letter 5" and each[2] for each in thunderbird.script(LIST, "INBOX")
        ),
        "the flag",
    )


def test_a_message_is_moved(thunderbird: Thunderbird, other: RawClient) -> None:
    thunderbird.script(LIST, "INBOX")
    thunderbird.script(MOVE, "INBOX", "Sent", "letter 9")
    eventually(lambda: bool(flags_of(other, b"Sent", b"letter 9")), "the message in Sent")
    eventually(lambda: not flags_of(other, b"INBOX", b"letter 9"), "the message gone from INBOX")
    assert thunderbird.script(ARRIVED, "Sent", "letter 9")


def test_the_server_searches(thunderbird: Thunderbird) -> None:
    assert thunderbird.script(SEARCH, "INBOX", "body", "walrus") == ["letter 7"]
    found = thunderbird.script(SEARCH, "INBOX", "subject", "letter 1")
    assert found == sorted(f"letter {n}" for n in (1, *range(10, 20)))


def test_new_mail_shows_by_itself(thunderbird: Thunderbird, other: RawClient) -> None:
    thunderbird.script(LIST, "INBOX")
    other.append(b"INBOX", TEXT % (99, 30, 99, b"new"))
    thunderbird.script(ARRIVED, "INBOX", "letter 99")


def test_folders_with_names_beyond_ascii(thunderbird: Thunderbird) -> None:
    names = thunderbird.script("return tb.server.rootFolder.descendants.map(each => each.name);")
    assert "Zürich" in names
