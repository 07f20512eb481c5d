"""Mail from and to other places: Maildir, mbox, an IMAP account elsewhere, a backup."""
