from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.mail.address import Address
from postroad.mail.envelope import Recipient
from postroad.mail.errors import LocalProtocolError, ProtocolError
from postroad.mail.reply import Reply
from postroad.protocol.smtp.client import (
    NEED_DATA,
    PATIENCE_S,
    Answer,
    ClientConnection,
    ClientEvent,
    ContentWanted,
    Done,
    Extensions,
    Greeted,
    Hailed,
    Lost,
    Refused,
    Stage,
    TLSReady,
    Transaction,
)
from postroad.protocol.smtp.client_words import render_mail, render_rcpt
from postroad.protocol.smtp.data import DotDecoder, Unsendable

ANN = Address("ann", "one.example")
BOB = Recipient(path=Address("bob", "two.example"))
CAROL = Recipient(path=Address("carol", "two.example"))
PLAIN = ("SIZE 1000000", "8BITMIME")
PIPELINED = ("PIPELINING", *PLAIN)


def tell(conn: ClientConnection, octets: bytes) -> tuple[list[ClientEvent], bytes]:
    """Everything that follows from these octets, and everything that may go out."""
    sent = conn.octets_to_send()
    if octets:
        conn.receive_data(octets)
    events: list[ClientEvent] = []
    while True:
        event = conn.next_event()
        out = conn.octets_to_send()
        sent += out
        if event is not NEED_DATA:
            events.append(event)
        elif not out:
            return events, sent


def ehlo(extensions: tuple[str, ...]) -> bytes:
    lines = ["mx.two.example", *extensions]
    marks = ["-"] * (len(lines) - 1) + [" "]
    return "".join(f"250{m}{x}\r\n" for m, x in zip(marks, lines, strict=True)).encode()


def ready(extensions: tuple[str, ...] = PIPELINED) -> ClientConnection:
    conn = ClientConnection("mx.one.example")
    assert tell(conn, b"220 mx.two.example ESMTP\r\n")[1] == b"EHLO mx.one.example\r\n"
    events, _ = tell(conn, ehlo(extensions))
    assert isinstance(events[0], Hailed)
    return conn


def transaction(*recipients: Recipient, **more: object) -> Transaction:
    return Transaction(reverse_path=ANN, recipients=recipients or (BOB,), size=100, **more)  # type: ignore[arg-type]


def stages(event: ClientEvent) -> list[tuple[Stage, int]]:
    assert isinstance(event, Done)
    return [(answer.stage, answer.reply.code) for answer in event.answers]


# -- Greeting and EHLO --------------------------------------------------------------------------
def test_greeting_then_ehlo() -> None:
    conn = ClientConnection("mx.one.example")
    assert conn.stage is Stage.GREETING
    events, sent = tell(conn, b"220-mx.two.example\r\n220 ready\r\n")
    assert isinstance(events[0], Greeted)
    assert sent == b"EHLO mx.one.example\r\n"
    (event,), sent = tell(conn, ehlo(("PIPELINING", "size 35882577", "AUTH PLAIN LOGIN", "x!y")))
    assert isinstance(event, Hailed) and not sent
    assert conn.is_ready
    assert "PIPELINING" in conn.extensions and "X!Y" not in conn.extensions
    assert conn.extensions.size_max == 35882577
    assert conn.extensions.keywords["AUTH"] == "PLAIN LOGIN"


@pytest.mark.parametrize("text", ["", "0", "many", "9" * 30, "٣"])
def test_a_size_that_says_nothing(text: str) -> None:
    assert Extensions({"SIZE": text}).size_max is None


def test_helo_when_ehlo_is_unknown() -> None:
    conn = ClientConnection("mx.one.example")
    tell(conn, b"220 old\r\n")
    events, sent = tell(conn, b"502 what?\r\n")
    assert events == [] and sent == b"HELO mx.one.example\r\n"
    (event,), _ = tell(conn, b"250 PIPELINING\r\n")
    assert event == Hailed(Extensions())
    assert conn.is_ready


@pytest.mark.parametrize(
    ("dialog", "stage"),
    [
        ([b"554 go away\r\n"], Stage.GREETING),
        ([b"421 busy\r\n"], Stage.GREETING),
        ([b"220 hi\r\n", b"421 busy\r\n"], Stage.EHLO),
        ([b"220 hi\r\n", b"450 later\r\n"], Stage.EHLO),
        ([b"220 hi\r\n", b"500 no\r\n", b"550 no\r\n"], Stage.HELO),
    ],
)
def test_no_session(dialog: list[bytes], stage: Stage) -> None:
    conn = ClientConnection("mx.one.example")
    for octets in dialog:
        events, sent = tell(conn, octets)
    assert isinstance(events[-1], Refused) and events[-1].stage is stage
    assert conn.is_closed and not sent


# -- Replies ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "octets",
    [
        b"hello\r\n",
        b"22 short\r\n",
        b"2200 long\r\n",
        b"220_under\r\n",
        b"150 one\r\n",
        b"650 six\r\n",
        b"354 go on\r\n",
        b"220-one\r\n221 two\r\n",
        b"\r\n",
        b"\xff\xfe\r\n",
        b"220" + b"-" + b"x" * 70_000,
        b"220 " + b"x" * 70_000 + b"\r\n",
        b"220-x\r\n" * 201,
    ],
)
def test_replies_out_of_form_or_bounds(octets: bytes) -> None:
    conn = ClientConnection("mx.one.example")
    conn.receive_data(octets)
    with pytest.raises(ProtocolError):
        conn.next_event()
    assert conn.is_closed
    assert conn.next_event() is NEED_DATA


def test_replies_with_bare_lf_no_text_or_strange_octets_are_understood() -> None:
    conn = ClientConnection("mx.one.example")
    events, _ = tell(conn, b"220-\xff\xfe\n220\n")
    assert isinstance(events[0], Greeted)
    assert events[0].reply.lines == ("��", "")


def test_a_reply_to_nothing_is_refused_but_421_is_the_end() -> None:
    conn = ready()
    conn.receive_data(b"250 hello again\r\n")
    assert not conn.is_ready
    with pytest.raises(ProtocolError):
        conn.next_event()
    conn = ready()
    (event,), _ = tell(conn, b"421 4.3.2 going down\r\n")
    assert isinstance(event, Lost) and event.reply is not None and event.reply.code == 421


# -- STARTTLS -----------------------------------------------------------------------------------
def test_starttls_forgets_what_was_said() -> None:
    conn = ready(("STARTTLS", "PIPELINING", "XPLAIN"))
    conn.start_tls()
    assert tell(conn, b"")[1] == b"STARTTLS\r\n"
    (event,), _ = tell(conn, b"220 go\r\n")
    assert event == TLSReady()
    conn.tls_started()
    assert conn.extensions == Extensions()
    assert tell(conn, b"")[1] == b"EHLO mx.one.example\r\n"
    (event,), _ = tell(conn, ehlo(("SIZE",)))
    assert isinstance(event, Hailed)
    assert "XPLAIN" not in conn.extensions and "PIPELINING" not in conn.extensions


def test_plaintext_behind_starttls_is_refused() -> None:
    conn = ready(("STARTTLS",))
    conn.start_tls()
    tell(conn, b"")
    conn.receive_data(b"220 go\r\n250 injected\r\n")
    with pytest.raises(ProtocolError):
        conn.next_event()
    conn = ready(("STARTTLS",))
    conn.start_tls()
    tell(conn, b"220 go\r\n")
    with pytest.raises(ProtocolError):
        conn.receive_data(b"250 injected\r\n")


def test_starttls_refused_leaves_the_session() -> None:
    conn = ready(("STARTTLS",))
    conn.start_tls()
    tell(conn, b"")
    (event,), _ = tell(conn, b"454 4.7.0 not now\r\n")
    assert isinstance(event, Refused) and event.stage is Stage.STARTTLS
    assert conn.is_ready


def test_starttls_that_was_not_offered_is_our_bug() -> None:
    with pytest.raises(LocalProtocolError):
        ready().start_tls()


# -- Transactions -------------------------------------------------------------------------------
def send(conn: ClientConnection, octets: bytes = b"hi\r\n") -> bytes:
    return conn.send_content(octets) + conn.end_content()


def test_pipelined_transaction_is_one_write() -> None:
    conn = ready()
    conn.begin(transaction(BOB, CAROL))
    _, sent = tell(conn, b"")
    assert sent == (
        b"MAIL FROM:<ann@one.example> SIZE=100\r\n"
        b"RCPT TO:<bob@two.example>\r\nRCPT TO:<carol@two.example>\r\nDATA\r\n"
    )
    (event,), _ = tell(conn, b"250 ok\r\n250 ok\r\n550 5.1.1 who?\r\n354 go\r\n")
    assert event == ContentWanted()
    assert conn.answers == (None, Answer(Stage.RCPT, Reply.of(550, "5.1.1", "who?")))
    assert send(conn) == b"hi\r\n.\r\n"
    (event,), _ = tell(conn, b"250 2.0.0 taken\r\n")
    assert stages(event) == [(Stage.CONTENT, 250), (Stage.RCPT, 550)]
    assert isinstance(event, Done)
    assert [answer.is_delivered for answer in event.answers] == [True, False]
    conn.begin(transaction(BOB))
    assert tell(conn, b"")[1].startswith(b"RSET\r\nMAIL FROM:")


def test_without_pipelining_one_command_at_a_time() -> None:
    conn = ready(PLAIN)
    conn.begin(transaction(BOB, CAROL))
    heard = [tell(conn, b"")[1]]
    for reply in (b"250 ok\r\n", b"550 no\r\n", b"250 ok\r\n"):
        events, sent = tell(conn, reply)
        assert events == []
        heard.append(sent)
    assert heard == [
        b"MAIL FROM:<ann@one.example> SIZE=100\r\n",
        b"RCPT TO:<bob@two.example>\r\n",
        b"RCPT TO:<carol@two.example>\r\n",
        b"DATA\r\n",
    ]
    assert tell(conn, b"354 go\r\n")[0] == [ContentWanted()]


def test_without_pipelining_nothing_follows_a_refusal() -> None:
    conn = ready(PLAIN)
    conn.begin(transaction(BOB, CAROL))
    tell(conn, b"")
    (event,), sent = tell(conn, b"550 5.7.1 no\r\n")
    assert stages(event) == [(Stage.MAIL, 550)] * 2 and sent == b""
    conn.begin(transaction(BOB))
    tell(conn, b"")
    assert tell(conn, b"250 reset\r\n")[1].startswith(b"MAIL")
    assert tell(conn, b"250 ok\r\n")[1].startswith(b"RCPT")
    (event,), sent = tell(conn, b"450 later\r\n")
    assert stages(event) == [(Stage.RCPT, 450)] and sent == b""


@pytest.mark.parametrize("data", [b"354 go\r\n", b"503 5.5.1 no recipients\r\n", b"554 no\r\n"])
def test_all_recipients_refused_in_a_pipeline(data: bytes) -> None:
    """RFC 2920 §3.1: 354 all the same is answered with a lone dot."""
    conn = ready()
    conn.begin(transaction(BOB, CAROL))
    tell(conn, b"")
    events, sent = tell(conn, b"250 ok\r\n550 no\r\n551 no\r\n" + data)
    if data.startswith(b"354"):
        assert events == [] and sent == b".\r\n"
        events, sent = tell(conn, b"554 5.5.1 no valid recipients\r\n")
    assert stages(events[0]) == [(Stage.RCPT, 550), (Stage.RCPT, 551)] and sent == b""
    assert conn.is_ready


def test_mail_refused_in_a_pipeline() -> None:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"")
    (event,), _ = tell(conn, b"552 5.3.4 too big\r\n503 order\r\n503 order\r\n")
    assert stages(event) == [(Stage.MAIL, 552)]


def test_a_recipient_accepted_behind_a_refused_mail_gets_nothing() -> None:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"")
    events, sent = tell(conn, b"451 later\r\n250 ok\r\n354 go\r\n")
    assert events == [] and sent == b".\r\n"
    (event,), _ = tell(conn, b"250 taken?\r\n")
    assert stages(event) == [(Stage.MAIL, 451)]


def test_data_refused_is_everybodys_answer() -> None:
    conn = ready()
    conn.begin(transaction(BOB, CAROL))
    tell(conn, b"")
    (event,), _ = tell(conn, b"250 ok\r\n250 ok\r\n450 no\r\n451 4.3.0 trouble\r\n")
    assert stages(event) == [(Stage.DATA, 451), (Stage.RCPT, 450)]


@pytest.mark.parametrize("reply", [b"250 ok\r\n", b"300 what\r\n", b"355 what\r\n"])
def test_data_answered_with_nonsense(reply: bytes) -> None:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"")
    conn.receive_data(b"250 ok\r\n250 ok\r\n" + reply)
    with pytest.raises(ProtocolError):
        tell(conn, b"")
    assert conn.answers == (None,)


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"421 bye\r\n", [(Stage.MAIL, 421)] * 2),
        (b"250 ok\r\n421 bye\r\n", [(Stage.RCPT, 421)] * 2),
        (b"250 ok\r\n250 ok\r\n421 bye\r\n", [(Stage.RCPT, 421)] * 2),
        (b"250 ok\r\n550 no\r\n250 ok\r\n421 bye\r\n", [(Stage.RCPT, 550), (Stage.DATA, 421)]),
    ],
)
def test_421_at_any_time(replies: bytes, expected: list[tuple[Stage, int]]) -> None:
    conn = ready()
    conn.begin(transaction(BOB, CAROL))
    tell(conn, b"")
    (event,), _ = tell(conn, replies)
    assert stages(event) == expected
    assert conn.is_closed


@pytest.mark.parametrize(
    ("replies", "stage"),
    [
        (b"", Stage.MAIL),
        (b"250 ok\r\n", Stage.RCPT),
        (b"250 ok\r\n250 ok\r\n", Stage.DATA),
        (b"250 ok\r\n250 ok\r\n354 go\r\n", Stage.BLOCK),
    ],
)
def test_the_end_before_the_dot_leaves_everybody_undecided(replies: bytes, stage: Stage) -> None:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, replies)
    conn.receive_data(b"")
    assert conn.next_event() == Lost(stage, None)
    assert conn.answers == (None,)
    assert conn.next_event() is NEED_DATA


def test_the_end_behind_the_dot_is_told_apart() -> None:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"250 ok\r\n250 ok\r\n354 go\r\n")
    send(conn)
    assert conn.stage is Stage.CONTENT and conn.patience() == 600
    conn.receive_data(b"")
    assert conn.next_event() == Lost(Stage.CONTENT, None)


def test_a_refusal_before_the_dot_ends_the_session_and_never_delivers() -> None:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"250 ok\r\n250 ok\r\n354 go\r\n")
    conn.send_content(b"x" * 10)
    (event,), _ = tell(conn, b"552 5.3.4 enough\r\n")
    assert stages(event) == [(Stage.BLOCK, 552)]
    assert conn.is_closed
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"250 ok\r\n250 ok\r\n354 go\r\n")
    conn.receive_data(b"250 taken already\r\n")
    with pytest.raises(ProtocolError):
        conn.next_event()
    assert conn.answers == (None,)


def test_a_refused_reset_means_a_new_connection() -> None:
    for reply in (b"421 idle too long\r\n", b"500 what\r\n"):
        conn = ready()
        conn.begin(transaction(BOB))
        tell(conn, b"550 no\r\n503 no\r\n503 no\r\n")
        conn.begin(transaction(BOB))
        tell(conn, b"")
        (event,), _ = tell(conn, reply)
        assert isinstance(event, Lost) and event.stage is Stage.RSET
        assert conn.answers == (None,)


def test_quit() -> None:
    conn = ready()
    conn.quit()
    assert tell(conn, b"")[1] == b"QUIT\r\n"
    (event,), _ = tell(conn, b"221 bye\r\n")
    assert isinstance(event, Lost) and event.stage is Stage.QUIT
    with pytest.raises(LocalProtocolError):
        conn.quit()


def test_a_long_pipeline_is_bounded() -> None:
    """Replies to what is in flight must fit the peer's send buffer (RFC 2920 §3.1)."""
    conn = ready()
    many = tuple(Recipient(path=Address(f"u{n}" + "x" * 50, "two.example")) for n in range(1000))
    conn.begin(transaction(*many))
    _, sent = tell(conn, b"")
    flight = sent.count(b"\r\n")
    assert len(sent) <= 16_384 and flight > 100
    total = flight
    while not sent.endswith(b"DATA\r\n"):
        _, sent = tell(conn, b"250 ok\r\n" * 50)
        total += sent.count(b"\r\n")
    assert total == 1002


def test_only_what_is_in_order_may_be_asked() -> None:
    conn = ClientConnection("mx.one.example")
    for act in (
        lambda: conn.begin(transaction(BOB)),
        conn.start_tls,
        conn.tls_started,
        conn.quit,
        conn.end_content,
        lambda: conn.send_content(b""),
    ):
        with pytest.raises(LocalProtocolError):
            act()
    with pytest.raises(ValueError, match="at least one recipient"):
        Transaction(reverse_path=None, recipients=(), size=1)


def test_every_stage_has_its_patience() -> None:
    assert set(PATIENCE_S) == set(Stage)
    assert PATIENCE_S[Stage.CONTENT] >= 600 and PATIENCE_S[Stage.MAIL] >= 300


# -- Commands -----------------------------------------------------------------------------------
def test_parameters_go_only_where_they_are_offered() -> None:
    ask = transaction(eight_bit=True, smtputf8=True, ret="HDRS", envid="QQ314")
    all_of = Extensions(dict.fromkeys(("SIZE", "8BITMIME", "SMTPUTF8", "DSN"), ""))
    assert render_mail(ask, Extensions()) == b"MAIL FROM:<ann@one.example>\r\n"
    assert render_mail(ask, all_of) == (
        b"MAIL FROM:<ann@one.example> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314\r\n"
    )
    wish = Recipient(
        path=BOB.path, notify=frozenset({"SUCCESS", "FAILURE"}), orcpt="rfc822;Bob@two.example"
    )
    assert render_rcpt(wish, Extensions(), False) == b"RCPT TO:<bob@two.example>\r\n"
    assert render_rcpt(wish, all_of, False) == (
        b"RCPT TO:<bob@two.example> NOTIFY=FAILURE,SUCCESS ORCPT=rfc822;Bob@two.example\r\n"
    )


def test_paths() -> None:
    nobody = Transaction(reverse_path=None, recipients=(BOB,), size=1)
    assert render_mail(nobody, Extensions()) == b"MAIL FROM:<>\r\n"
    umlaut = Recipient(path=Address("info", "bücher.example"))
    assert render_rcpt(umlaut, Extensions(), False) == b"RCPT TO:<info@xn--bcher-kva.example>\r\n"
    assert render_rcpt(umlaut, Extensions(), True) == "RCPT TO:<info@bücher.example>\r\n".encode()
    quoted = Recipient(path=Address('a "b"', "two.example"))
    assert render_rcpt(quoted, Extensions(), False) == b'RCPT TO:<"a \\"b\\""@two.example>\r\n'


@pytest.mark.parametrize("evil", ["bob\r\nRSET", "bob\n", "b\0b"])
def test_a_path_is_never_two_commands(evil: str) -> None:
    with pytest.raises(LocalProtocolError):
        render_rcpt(Recipient(path=Address(evil, "two.example")), Extensions(), False)


def test_an_envid_is_never_two_parameters() -> None:
    ask = transaction(envid="x RET=FULL")
    assert b"ENVID" not in render_mail(ask, Extensions({"DSN": ""}))


# -- Content ------------------------------------------------------------------------------------
def content_state() -> ClientConnection:
    conn = ready()
    conn.begin(transaction(BOB))
    tell(conn, b"250 ok\r\n250 ok\r\n354 go\r\n")
    return conn


SMUGGLES = [
    b"a\n.\nMAIL FROM:<x@y>\r\n",
    b"a\r.\rMAIL\r\n",
    b"a\r\n.\nMAIL\r\n",
    b"a\n.\r\nMAIL\r\n",
    b"a\r.\r\nMAIL\r\n",
    b"a\r\n.\rMAIL\r\n",
    b"a\r\r\n.\r\r\nMAIL\r\n",
    b"a\0\r\n",
    b"\n.\r\n",
    b"a\r",
]


@pytest.mark.parametrize("octets", SMUGGLES)
@pytest.mark.parametrize("cut", [0, 1, 2, 3, 4, 5])
def test_smuggling_never_leaves(octets: bytes, cut: int) -> None:
    """Source: RFC 5321 §2.3.8, §4.1.1.4; the variants of the SMTP smuggling reports of 2023."""
    conn = content_state()
    wire = b""
    with pytest.raises(Unsendable):
        for piece in (octets[:cut], octets[cut:]):
            wire += conn.send_content(piece)
        wire += conn.end_content()
    assert b"\r\n.\r\n" not in b"\r\n" + wire
    assert conn.is_closed
    with pytest.raises(LocalProtocolError):
        conn.end_content()


LINES = st.lists(
    st.one_of(
        st.sampled_from([b".", b"..", b".x", b"", b"MAIL FROM:<x@y>"]),
        st.binary(max_size=20).map(
            lambda o: o.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"")
        ),
    ),
    max_size=12,
)


@given(LINES, st.lists(st.integers(0, 200), max_size=5))
@settings(max_examples=150, deadline=None)
def test_what_goes_in_comes_out(lines: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(line + b"\r\n" for line in lines)
    conn = content_state()
    wire, start = b"", 0
    for cut in sorted(cuts):
        wire += conn.send_content(octets[start:cut])
        start = max(start, cut)
    wire += conn.send_content(octets[start:]) + conn.end_content()
    decoder = DotDecoder()
    assert decoder.feed(wire) == octets
    assert decoder.ended and decoder.leftover == b"" and decoder.fault is None


DIALOG = (
    b"220-mx.two.example\r\n220 hi\r\n250-mx\r\n250-PIPELINING\r\n250 SIZE\r\n"
    b"250 2.1.0 ok\r\n250 2.1.5 ok\r\n550-5.1.1 no\r\n550 5.1.1 body\r\n354 go\r\n"
)


def play(chunks: list[bytes]) -> tuple[list[ClientEvent], bytes]:
    """The dialog up to 354; the transaction begins as soon as it may."""
    conn = ClientConnection("mx.one.example")
    events: list[ClientEvent] = []
    sent = b""
    for chunk in chunks:
        # the peer pipelines nothing: what it says early waits until it was asked
        found, out = tell(conn, chunk)
        events += found
        sent += out
        if found and isinstance(found[-1], Hailed):
            conn.begin(transaction(BOB, CAROL))
            sent += tell(conn, b"")[1]
    return events, sent


@given(st.lists(st.integers(0, len(DIALOG)), max_size=12))
@settings(max_examples=150, deadline=None)
def test_packet_borders_change_nothing(cuts: list[int]) -> None:
    # Borders where we must have spoken before the peer goes on: greeting, EHLO.
    first = DIALOG.index(b"250-mx")
    second = DIALOG.index(b"250 2.1.0")
    borders = sorted({0, len(DIALOG), first, second, *cuts})
    pieces = [DIALOG[a:b] for a, b in itertools.pairwise(borders)]
    assert play(pieces) == play([DIALOG[:first], DIALOG[first:second], DIALOG[second:]])


@given(st.lists(st.binary(max_size=40), max_size=6), st.sampled_from(["new", "ready", "mail"]))
@settings(max_examples=200, deadline=None)
def test_any_octets_in_any_state_are_answered(chunks: list[bytes], state: str) -> None:
    conn = ClientConnection("mx.one.example") if state == "new" else ready()
    if state == "mail":
        conn.begin(transaction(BOB))
        conn.octets_to_send()
    try:
        for chunk in chunks:
            tell(conn, chunk)
        conn.receive_data(b"")
        tell(conn, b"")
    except ProtocolError:
        pass
    assert conn.is_closed
