"""Every bound, beside its reason. A peer can make nothing grow past these.

Bounds that an operator may set live in the configuration and have their default here.
"""

from __future__ import annotations

# -- SMTP -------------------------------------------------------------------------------------
SMTP_COMMAND_OCTETS_MAX = 4096
"""RFC 5321 §4.5.3.1.4 asks for 512; AUTH needs 12288 (below), SMTPUTF8 and DSN lengthen RCPT."""
SMTP_AUTH_LINE_OCTETS_MAX = 12288
"""RFC 4954 §4."""
SMTP_REPLY_LINES_MAX = 200
"""Of a peer's reply: EHLO with every known extension has about 30."""
SMTP_REPLY_OCTETS_MAX = 65536
SMTP_TEXT_LINE_OCTETS_MAX = 998
"""Without CRLF (RFC 5321 §4.5.3.1.6)."""
SMTP_RECIPIENTS_MAX = 1000
"""Per transaction; at least 100 (RFC 5321 §4.5.3.1.8). Past it: 452, the client goes on later."""
SMTP_BAD_COMMANDS_MAX = 20
"""Syntax and order errors of one session before it is closed with 421."""
SMTP_IDLE_COMMANDS_MAX = 300
"""EHLO, RSET, NOOP, VRFY, HELP, STARTTLS of one session since its last message; then it ends."""
SMTP_REFUSED_PATHS_MAX = 100
"""MAIL and RCPT refused for good in one session, then it is closed: who asks on is looking for
addresses that exist. A list with so many dead ones comes back and goes on."""
SMTP_AUTH_EXCHANGES_MAX = 20
"""AUTH commands of one session, broken off or not; a mail program needs one or two."""
SMTP_RECIPIENTS_TRIED_FACTOR = 3
"""Times the recipients of a transaction: a client that goes on past 452 so far does not listen."""
SMTP_RECEIVED_HOPS_MAX = 100
"""RFC 5321 §6.3: a loop; large, as asked."""
SMTP_HEADER_OCTETS_MAX = 1 << 20
"""Of a whole header section: 30 times what real mail has, small enough to parse in 20 ms."""

# -- Messages ---------------------------------------------------------------------------------
MESSAGE_OCTETS_MAX_DEFAULT = 50 << 20
"""Default of [limits] message_octets; the big providers take 25 to 50 MB."""
DRAFT_MEMORY_OCTETS_MAX = 256 << 10
"""What a message being received keeps in memory; the rest is on disk."""
MIME_DEPTH_MAX = 100
MIME_PARTS_MAX = 10_000
HEADER_FIELDS_MAX = 10_000

# -- IMAP and POP3 ----------------------------------------------------------------------------
IMAP_LINE_OCTETS_MAX = 65_536
"""Command text outside literals: `UID FETCH` of a scattered mailbox takes some 50 KB."""
IMAP_LITERAL_OCTETS_MAX = 65_536
"""Of a literal that is not a message (names, search strings)."""
IMAP_NESTING_MAX = 50
IMAP_BAD_COMMANDS_MAX = 20
POP3_LINE_OCTETS_MAX = 255
"""RFC 2449 §4: 255 octets with CRLF."""
POP3_BAD_COMMANDS_MAX = 20
MAILBOX_NAME_OCTETS_MAX = 512
MAILBOX_DEPTH_MAX = 32
MAILBOXES_PER_ACCOUNT_MAX = 10_000
ACCESS_ENTRIES_PER_MAILBOX_MAX = 1000
"""Of one access control list: GETACL tells all of them. More share through `anyone`."""
ANNOTATION_OCTETS_MAX = 32_768
"""Of one value; at least 1024 (RFC 5464 §4.1). Fits a literal, and any note a person writes."""
ANNOTATIONS_PER_MAILBOX_MAX = 100
"""Of one reader, /shared counted apart; at least 10 (RFC 5464 §4.1), clients keep a handful."""
ANNOTATION_OCTETS_PER_ACCOUNT_MAX = 8 << 20
"""Of all that one reader, or /shared, keeps in one account: they count in no quota."""

# -- Waiting (seconds) ------------------------------------------------------------------------
SMTP_IDLE_TIMEOUT_S = 300
"""RFC 5321 §4.5.3.2.7: at least 5 minutes."""
SMTP_DATA_TIMEOUT_S = 3600
"""For a whole message: 50 MB at 15 KB/s; without it one octet a minute would hold a session."""
IMAP_IDLE_TIMEOUT_S = 1860
"""RFC 3501 §5.4: at least 30 minutes."""
IMAP_PREAUTH_TIMEOUT_S = 60
POP3_IDLE_TIMEOUT_S = 600
"""RFC 1939 §3: at least 10 minutes."""
TLS_HANDSHAKE_TIMEOUT_S = 30

# -- DNS and authentication of mail -----------------------------------------------------------
DKIM_SIGNATURES_VERIFIED_MAX = 10
SPF_LOOKUPS_MAX = 10
"""RFC 7208 §4.6.4."""
SPF_VOID_LOOKUPS_MAX = 2
SASL_MESSAGE_OCTETS_MAX = 12288
"""RFC 4954 §4: also what we take by IMAP and POP3."""
LOGIN_FAILURES_MAX = 5
"""Per session; then it is closed."""
