"""IMAP4rev1, the server's side, without sockets: borders, grammar, typed commands, rendering.

Source: RFC 3501 and the extensions each module names.
"""
