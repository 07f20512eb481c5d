"""Outgoing mail: accept, lease, settle; the schedule is a pure function."""
