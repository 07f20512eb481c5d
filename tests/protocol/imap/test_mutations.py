"""Every command, damaged: each line is answered once, and the next one is understood."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from postroad.protocol.imap import commands
from postroad.protocol.imap.server import (
    LEGAL,
    NEED_DATA,
    Bad,
    Event,
    ServerConnection,
    State,
)

SEEDS = [
    b"CAPABILITY", b"NOOP", b"LOGOUT", b'ID ("name" "x" "v" NIL)', b"LANGUAGE de-AT fr",
    b"STARTTLS", b'LOGIN "a" b', b"AUTHENTICATE PLAIN AGEAYg==", b"ENABLE QRESYNC UTF8=ACCEPT",
    b"COMPRESS DEFLATE", b"UNAUTHENTICATE", b"NAMESPACE", b"IDLE",
    b"NOTIFY SET STATUS (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (To)])"
    b" MessageExpunge)) (mailboxes (a b) (MailboxName)) (subtree c NONE)",
    b"SELECT INBOX (QRESYNC (67890007 20050715194045000 41,43:211 (1:5 20:24)))",
    b"EXAMINE x (CONDSTORE)", b"CREATE x (USE (\\Sent))", b"DELETE x", b"RENAME x y",
    b"SUBSCRIBE x", b"STATUS x (MESSAGES SIZE HIGHESTMODSEQ)", b"SETACL x bob +lrs",
    b"GETMETADATA (MAXSIZE 10 DEPTH 1) x (/private/comment /shared)",
    b"SETMETADATA x (/private/comment {3+}\r\nabc /shared/comment NIL)",
    b'SETQUOTA "" (STORAGE 512 MESSAGE 3)', b'GENURLAUTH "imap://a@h/x;UID=1" INTERNAL',
    b'LIST (SUBSCRIBED RECURSIVEMATCH) "" ("*" "%") RETURN (CHILDREN STATUS (MESSAGES))',
    b'LSUB "" %', b"EXPUNGE", b"UID EXPUNGE 1:5,7", b"FETCH 1:* (FLAGS BODY[1.2.MIME]<0.5>)",
    b"UID FETCH 1:9 (BINARY.PEEK[1] PREVIEW (LAZY)) (CHANGEDSINCE 5 VANISHED)",
    b"UID FETCH $ FAST (PARTIAL -1:-30)", b"STORE 1 (UNCHANGEDSINCE 9) -FLAGS.SILENT (\\Seen a)",
    b"COPY 1,2:* x", b"UID MOVE 5 x",
    b'SEARCH RETURN (MIN PARTIAL 1:5 SAVE) CHARSET UTF-8 OR (SINCE 1-Feb-2026 NOT FROM "x")'
    b" HEADER a {2+}\r\nbc MODSEQ 5 FUZZY BODY x",
    b"UID SORT RETURN (UPDATE COUNT) (REVERSE DATE SUBJECT) UTF-8 UNSEEN",
    b"THREAD REFERENCES UTF-8 SMALLER 5", b'CANCELUPDATE "a" "b"',
    b"ESEARCH IN (subtree x personal) RETURN (COUNT) ALL",
    b"APPEND x (\\Seen) \" 1-Feb-2026 10:00:00 +0000\" {3+}\r\nabc",
    b"APPEND x CATENATE (URL \"/INBOX;UID=1\" TEXT {3+}\r\nabc)", b"REPLACE 4 x {3+}\r\nabc",
    b"APPEND x {1+}\r\na UTF8 (~{2+}\r\nbc)",
]  # fmt: skip
PIECES = [
    b" ", b"(", b")", b'"', b"\\", b"*", b"%", b"{", b"}", b"+", b"~", b"$", b"0", b"-1", b"NIL",
    b"4294967296", b"18446744073709551616", b"\xff", b"\xc3\xa9", b"\0", b"\x7f", b"[", b"]", b"<",
    b":", b",", b"UID ", b'""', b"()", b"{2+}\r\nab", b"~{2+}\r\nab", b"{0+}\r\n", b"a" * 300,
]  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    line = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 3))):
        low = draw(st.integers(0, len(line)))
        high = draw(st.integers(low, min(len(line), low + 6)))
        put = draw(st.sampled_from(PIECES) | st.binary(max_size=3) | st.just(b""))
        line = line[:low] + put + line[high:]
    return line


def answers(core: ServerConnection) -> list[Event]:
    """What is said to the client; messages of an APPEND are taken."""
    out: list[Event] = []
    while (event := core.next_event()) is not NEED_DATA:
        if type(event).__name__ == "LiteralPart":
            core.accept_literal()
        if isinstance(event, commands.Command | Bad) or type(event).__name__ == "AppendEnd":
            out.append(event)
        if isinstance(event, Bad) and event.fatal:
            break
    return out


_enabled = st.sets(st.sampled_from([b"IMAP4REV2", b"UTF8=ACCEPT", b"UIDONLY", b"QRESYNC"]))


@settings(max_examples=500, deadline=None)
@given(damaged(), _enabled, st.sampled_from([State.SELECTED, State.AUTHENTICATED]))
@example(b"FETCH 1 BODY[]<4294967296.1>", set(), State.SELECTED)
def test_a_damaged_command_is_answered_and_forgotten(
    line: bytes, enabled: set[bytes], state: State
) -> None:
    core = ServerConnection()
    core.state = state
    core.enabled |= enabled
    core.receive_data(b"a " + line + b"\r\n")
    found = answers(core)
    if any(isinstance(event, Bad) and event.fatal for event in found):
        return
    for _ in range(3):  # a literal that was announced and never came takes what comes next
        core.receive_data(b"\r\n" * 20)
        answers(core)
    core.receive_data(b"z NOOP\r\n")
    last = answers(core)
    if last and isinstance(last[-1], commands.Noop):
        assert last[-1].tag == b"z"
    else:  # it waits for more of a literal that is larger than what came
        assert b"{" in line


@settings(max_examples=60, deadline=None)
@given(st.lists(damaged(), min_size=2, max_size=4), st.data())
def test_packet_borders_change_nothing_in_damaged_commands(
    lines: list[bytes], data: st.DataObject
) -> None:
    octets = b"".join(b"a%d %b\r\n" % (number, line) for number, line in enumerate(lines))
    cut = data.draw(st.integers(0, len(octets)))

    def run(chunks: list[bytes]) -> list[Event]:
        core = ServerConnection()
        core.state = State.SELECTED
        out: list[Event] = []
        for chunk in chunks:
            core.receive_data(chunk)
            out += answers(core)
            if any(isinstance(event, Bad) and event.fatal for event in out):
                break
        return out

    assert run([octets]) == run([octets[:cut], octets[cut:]])


def test_every_command_has_a_seed() -> None:
    seeds = b"\n".join(SEEDS)
    missing = [verb for verb in LEGAL if verb not in seeds]
    assert set(missing) <= {
        b"UNSUBSCRIBE", b"DELETEACL", b"GETACL", b"LISTRIGHTS", b"MYRIGHTS", b"GETQUOTA",
        b"GETQUOTAROOT", b"URLFETCH", b"RESETKEY", b"CHECK", b"CLOSE", b"UNSELECT", b"MOVE",
    }  # fmt: skip


def test_seeds_are_good() -> None:
    """Else only damage to what is bad already would be tried."""
    for line in SEEDS:
        core = ServerConnection()
        before = line.split(b" ")[0] in (b"STARTTLS", b"LOGIN", b"AUTHENTICATE")
        core.state = State.NOT_AUTHENTICATED if before else State.SELECTED
        core.receive_data(b"a " + line + b"\r\n")
        found = answers(core)
        assert found, line
        assert not any(isinstance(event, Bad) for event in found), (line, found)
