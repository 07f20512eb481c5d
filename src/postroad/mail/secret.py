"""A secret that does not leak by accident: its repr is dots, its comparison takes constant time."""

from __future__ import annotations

import hmac


class Secret:
    """Octets nobody prints. `reveal()` is the one way out, and easy to search for."""

    __slots__ = ("_octets",)

    def __init__(self, value: bytes | str) -> None:
        self._octets = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        return self._octets

    def __repr__(self) -> str:
        return "Secret(...)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._octets, other._octets)

    def __hash__(self) -> int:
        raise TypeError("a Secret is not hashable")

    def __bool__(self) -> bool:
        return bool(self._octets)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Secret is not pickled")
