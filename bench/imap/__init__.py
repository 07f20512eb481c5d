"""`make bench-imap`: what mail clients do, timed beside Dovecot on the same messages."""
