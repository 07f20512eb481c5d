"""Which addresses are bound."""

from __future__ import annotations

import pytest

from postroad.app import sockets


@pytest.mark.parametrize(
    ("listed", "ipv6", "bound"),
    [
        (("0.0.0.0", "::"), True, ["0.0.0.0", "::"]),
        (("0.0.0.0", "::"), False, ["0.0.0.0"]),
        (("::",), False, ["::"]),  # asked for alone: the start fails and says why
        (("127.0.0.1", "::1"), False, ["127.0.0.1", "::1"]),
    ],
)
def test_all_ipv6_addresses_of_a_machine_without_any(
    monkeypatch: pytest.MonkeyPatch, listed: tuple[str, ...], ipv6: bool, bound: list[str]
) -> None:
    monkeypatch.setattr(sockets, "_has_ipv6", lambda: ipv6)
    assert sockets._present(listed) == bound


def test_ipv6_is_looked_for_by_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(address: str, port: int) -> None:
        raise OSError(97, "Address family not supported by protocol")

    monkeypatch.setattr(sockets, "bind", refuse)
    assert not sockets._has_ipv6()
