"""Mailboxes and their messages: blobs, the content heap, changes."""
