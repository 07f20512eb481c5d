"""Backups: taking them beside a running server, checking them, giving back what they hold."""
