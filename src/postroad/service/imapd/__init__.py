"""IMAP service: sessions over streams, a file per command, and the view."""

from postroad.service.imapd.service import IMAPService

__all__ = ["IMAPService"]
