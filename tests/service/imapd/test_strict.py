"""The reader of the grammar that all dialogs are held to finds fault where there is some."""

from __future__ import annotations

import pytest

from support.strict import Grammar, NotGrammar, Watcher

GOOD = [
    b"+ ", b"+ Ready", b"+ dGVzdA==", b"* OK [UIDNEXT 4] Next", b"a1 OK [READ-ONLY] done",
    b"* OK [BADCHARSET (UTF-8 {3}\r\na b)] x", b"* NO [METADATA LONGENTRIES 12] x",
    b'* LIST (\\HasChildren \\Sent) "/" "a&AOk-b" ("CHILDINFO" ("SUBSCRIBED"))',
    b'* LIST () NIL {3}\r\na"b', b'* LIST () "/" "new" ("OLDNAME" ("old"))', b"* SEARCH",
    b"* SEARCH 1 2 (MODSEQ 9)", b"* ESEARCH", b'* ESEARCH (TAG "a") UID MIN 1 ALL 2,4:7 COUNT 0',
    b'* ESEARCH (TAG "a" MAILBOX {1}\r\nx UIDVALIDITY 4) UID PARTIAL (-1:-9 NIL)',
    b'* ESEARCH (TAG "a") ADDTO (0 1:2 1 7) REMOVEFROM (1 3)',
    b"* THREAD (1)(2 3 (4)(5 6))((7)(8))",
    b'* STATUS "x" (MESSAGES 0 MAILBOXID (F-1) SIZE 99999999999)', b'* STATUS {1}\r\nx ()',
    b'* NAMESPACE (("" "/")) NIL (("a/" "/")("b/" "/"))', b'* ID ("name" "x" "os" NIL)',
    b"* ACL x -bob lrs anyone \"\"", b'* LISTRIGHTS x bob "" l r s', b"* MYRIGHTS x lrs",
    b'* QUOTA "" (STORAGE 1 2)', b"* QUOTAROOT x", b'* QUOTAROOT x ""',
    b'* METADATA "" (/shared/comment ~{2}\r\n\0a /private/x NIL)', b"* METADATA x /shared/comment",
    b"* URLFETCH x NIL", b"* URLFETCH x (BINARY ~{1}\r\n\0)", b"* VANISHED (EARLIER) 1:3,5",
    b"* 3 FETCH (UID 4 FLAGS () MODSEQ (9) BODY[1.2.HEADER.FIELDS (a {1}\r\nb)]<0> NIL)",
    b'* 3 UIDFETCH (ENVELOPE (NIL "x" ((NIL NIL "a" "b")(NIL NIL "c" "d")) NIL NIL NIL NIL NIL NIL'
    b' "<1>") INTERNALDATE " 1-Feb-2026 10:00:00 +0000")',
    b'* 1 FETCH (BODY ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3 1))',
    b'* 1 FETCH (BODYSTRUCTURE (("TEXT" "PLAIN" ("CHARSET" "x") NIL NIL "7BIT" 3 1 NIL NIL NIL NIL)'
    b'("MESSAGE" "RFC822" NIL NIL NIL "7BIT" 3 (NIL NIL NIL NIL NIL NIL NIL NIL NIL NIL) ("A" "B" '
    b'NIL NIL NIL "7BIT" 3) 4) "MIXED" ("BOUNDARY" "b") ("INLINE" NIL) ("en" "de") NIL))',
]  # fmt: skip
BAD = [
    b"", b"*", b"* ", b"+", b"* OK", b"a1 OK", b"a1 MAYBE x", b"* OK [NONSENSE] x",
    b"* OK [UIDNEXT 0] x",
    b"* OK [UIDNEXT] x", b"* OK [READ-ONLY]x", b"* OK na\xc3\xafve", b"* OK a\0b", b"* LIST () / x",
    b'* LIST () "/" "a&AOk"', b'* LIST () "/" "a&AGE-"', b'* LIST () "/" "\xc3\xa9"',
    b'* LIST () "/" "x" ("FOO" (1))', b"* SEARCH 0", b"* SEARCH  1", b"* SEARCH 1 ",
    b'* ESEARCH (TAG a) COUNT 1', b'* ESEARCH (TAG "a") ALL 0', b'* ESEARCH (TAG "a") ALL',
    b'* ESEARCH (TAG "a") ALL 1 ALL 2', b'* ESEARCH (TAG "a") MIN 0', b"* THREAD (1(2)(3))",
    b"* THREAD (1 (2))", b"* THREAD ()", b"* THREAD (1)(", b"* THREAD (1) (2)",
    b'* STATUS x (MESSAGES)', b"* STATUS x (FOO 1)", b"* STATUS x (MESSAGES 99999999999)",
    b"* ACL x bob", b"* QUOTA x (STORAGE 1)", b"* METADATA x ()", b"* METADATA x (/foo NIL)",
    b"* 0 FETCH (UID 1)", b"* 1 FETCH ()", b"* 1 FETCH (UID 0)", b"* 1 FETCH (FLAGS NIL)",
    b"* 1 FETCH (BODY[] {3}\r\nab)", b"* 1 FETCH (BODY[] {3}\r\na\0b)", b"* 1 FETCH (MODSEQ 3)",
    b'* 1 FETCH (BODY ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3))', b"* 1 FETCH (ENVELOPE NIL)",
    b'* 1 FETCH (BODY ("TEXT" "PLAIN" () NIL NIL "7BIT" 3 1))',
    b'* 1 FETCH (BODY ("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3 1 NIL))',
    b'* 1 FETCH (INTERNALDATE "1-Feb-2026 10:00:00 +0000")', b"* VANISHED", b"* VANISHED 3:*",
    b'* 1 FETCH (PREVIEW "a\xc3\xa9")', b'* 1 FETCH (PREVIEW "a\\b")', b"* FOO", b"* 1 EXISTS 2",
]  # fmt: skip


@pytest.mark.parametrize("response", GOOD)
def test_what_the_grammar_has_is_read(response: bytes) -> None:
    Grammar(response).response()


@pytest.mark.parametrize("response", BAD)
def test_what_it_has_not_is_found(response: bytes) -> None:
    with pytest.raises(NotGrammar):
        Grammar(response).response()


def test_utf8_where_it_was_enabled() -> None:
    watcher = Watcher()
    watcher.received(b"* OK hello\r\n* ENABLED UTF8=ACC")
    watcher.received(b'EPT\r\n* LIST () "/" "\xc3\xa9"\r\n')
    watcher.sent(b"a1 UNAUTHENTICATE\r\n")
    watcher.received(b"a1 OK done\r\n")
    assert watcher.count == 4
    with pytest.raises(NotGrammar):
        watcher.received(b'* LIST () "/" "\xc3\xa9"\r\n')


def test_literals_hide_nothing_behind_them() -> None:
    watcher = Watcher()
    octets = b"* 1 FETCH (BODY[] {5}\r\n\r\n* X UID 3)\r\n* 1 EXISTS\r\n"
    for at in range(len(octets)):
        watcher.received(octets[at : at + 1])
    assert watcher.count == 2
    watcher.received(b"* 1 EXI")
    with pytest.raises(NotGrammar):
        watcher.ended()


def test_compressed_octets_are_not_looked_at() -> None:
    watcher = Watcher()
    watcher.sent(b"c COMPRESS DEFLATE\r\n")
    watcher.received(b"c OK from here\r\n\x00\x01\r\n")
    assert watcher.count == 1
    watcher.ended()
