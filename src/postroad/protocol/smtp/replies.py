"""The replies of an SMTP server that never change, each written once.

Source: RFC 5321 §4.2.2, RFC 3463 §3 and RFC 5248 §2 (enhanced codes), RFC 4954 §6, RFC 3207 §4.
"""

from __future__ import annotations

from postroad.mail import limits
from postroad.mail.reply import Reply

OK = Reply.of(250, "2.0.0", "Ok")
SENDER_OK = Reply.of(250, "2.1.0", "Sender ok")
RECIPIENT_OK = Reply.of(250, "2.1.5", "Recipient ok")
START_INPUT = Reply.of(354, None, "End data with <CR><LF>.<CR><LF>")
CLOSING = Reply.of(221, "2.0.0", "Bye")
CANNOT_VRFY = Reply.of(252, "2.5.0", "Send some mail, I will try my best")
CANNOT_EXPN = Reply.of(502, "5.5.1", "EXPN is not offered")
HELP = Reply.of(
    214,
    "2.0.0",
    "EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT STARTTLS AUTH",
    "See RFC 5321",
)

UNRECOGNIZED = Reply.of(500, "5.5.1", "Command unrecognized")
LINE_TOO_LONG = Reply.of(500, "5.5.2", "Line too long")
BAD_LINE = Reply.of(500, "5.5.2", "A command line holds no bare CR, bare LF or NUL")
NOT_UTF8 = Reply.of(500, "5.5.2", "A command line is ASCII or UTF-8")
NO_ARGUMENT = Reply.of(501, "5.5.4", "No argument is allowed here")
ARGUMENT_WANTED = Reply.of(501, "5.5.4", "An argument is missing")
BAD_HELO = Reply.of(501, "5.5.4", "Your name is a domain or an address literal")
BAD_SEQUENCE = Reply.of(503, "5.5.1", "Bad sequence of commands")
HELO_FIRST = Reply.of(503, "5.5.1", "Say EHLO first")
MAIL_FIRST = Reply.of(503, "5.5.1", "Say MAIL first")
MAIL_TWICE = Reply.of(503, "5.5.1", "A transaction is under way; RSET ends it")
NO_RECIPIENTS = Reply.of(554, "5.5.1", "No valid recipients")
AUTHENTICATED_ALREADY = Reply.of(503, "5.5.1", "Already authenticated")
TLS_ALREADY = Reply.of(503, "5.5.1", "TLS is already active")
TOO_MANY_ERRORS = Reply.of(421, "4.7.0", "Too many errors, closing")
TOO_MANY_REFUSED = Reply.of(421, "4.7.0", "Too many refused addresses, closing")
FLOOD = Reply.of(421, "4.7.0", "Far more than the limit, closing")
TOO_MANY_COMMANDS = Reply.of(421, "4.7.0", "Too many commands without mail, closing")
NOT_HTTP = Reply.of(421, "4.7.0", "This is SMTP, closing")
NEEDS_SMTPUTF8 = Reply.of(553, "5.6.7", "An address that is not ASCII needs SMTPUTF8")

TLS_READY = Reply.of(220, "2.0.0", "Ready to start TLS")
TLS_UNAVAILABLE = Reply.of(454, "4.7.0", "TLS is not available")
TLS_PIPELINED = Reply.of(503, "5.5.1", "Nothing may follow STARTTLS before the handshake, closing")

AUTH_OK = Reply.of(235, "2.7.0", "Authenticated")
AUTH_REJECTED = Reply.of(535, "5.7.8", "Wrong login or password")
AUTH_CANCELLED = Reply.of(501, "5.7.0", "Authentication cancelled")
AUTH_TOO_LONG = Reply.of(500, "5.5.6", "Authentication exchange line is too long")
AUTH_UNAVAILABLE = Reply.of(454, "4.7.0", "Cannot check the password now, try again later")
AUTH_NOT_HERE = Reply.of(502, "5.5.1", "AUTH is not offered here")
AUTH_NEEDS_TLS = Reply.of(538, "5.7.11", "Encryption required for authentication")
AUTH_REQUIRED = Reply.of(530, "5.7.0", "Authentication required")
TLS_REQUIRED = Reply.of(530, "5.7.0", "Say STARTTLS first")

RELAY_DENIED = Reply.of(550, "5.7.1", "Relaying denied: that domain is not ours")
NO_SUCH_USER = Reply.of(550, "5.1.1", "No such user here")
TOO_MANY_RECIPIENTS = Reply.of(452, "4.5.3", "Too many recipients, send the rest later")
TOO_BIG = Reply.of(552, "5.3.4", "The message is larger than the limit")
TOO_MANY_HOPS = Reply.of(554, "5.4.6", "Too many hops: this message goes round in a loop")
HEADER_TOO_BIG = Reply.of(
    552, "5.3.4", f"The header is larger than {limits.SMTP_HEADER_OCTETS_MAX} octets"
)
TOO_MANY_FIELDS = Reply.of(
    550, "5.6.0", f"Refused: the header has more than {limits.HEADER_FIELDS_MAX} fields"
)
HEADER_BEGINS_FOLDED = Reply.of(
    550, "5.6.0", "Refused: the message begins with white space, where its first field should"
)

TIMED_OUT = Reply.of(421, "4.4.2", "Timed out waiting for you, closing")
DRAINING = Reply.of(421, "4.3.2", "The service is shutting down, come back soon")
OUR_FAULT = Reply.of(451, "4.3.0", "Something failed here, try again later")
OUR_FAULT_CLOSING = Reply.of(421, "4.3.0", "Something failed here, closing; try again later")
UNAVAILABLE = Reply.of(451, "4.3.0", "Temporary trouble here, try again later")
MAILBOX_FULL = Reply.of(452, "4.2.2", "A recipient's mailbox is full, try again later")
NO_SPACE = Reply.of(452, "4.3.1", "No room for the message now, try again later")
GONE_MEANWHILE = Reply.of(451, "4.2.1", "A recipient changed meanwhile, try again")
