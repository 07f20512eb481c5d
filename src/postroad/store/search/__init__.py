"""Searching an account's mail: its text in compressed blocks, and narrow records for sorting."""
