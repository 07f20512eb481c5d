"""Postroad: a complete mail server. See docs/architecture.md for the floors."""

__version__ = "0.1.0"
