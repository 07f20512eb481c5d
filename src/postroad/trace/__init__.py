"""Events: one thing that happened is one frozen value; log lines and views are made from it.

An event is defined where it happens, as a frozen dataclass that derives from `Event`. Secrets,
SASL exchanges and message bodies are never put into one.
"""

from postroad.trace.event import Event, Trace, discard, record

__all__ = ["Event", "Trace", "discard", "record"]
