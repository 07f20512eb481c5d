"""Domains with a mail host each, all on one port, found through the lab's DNS."""

from __future__ import annotations

import asyncio

import pytest

from postroad.dns.resolver import MX
from postroad.lab.client import send, send_async
from postroad.lab.internet import Lab
from postroad.lab.peers import Behaviour


def test_two_domains_are_found_by_their_mx_on_one_port() -> None:
    async def main() -> None:
        async with Lab() as lab:
            two = lab.domain("two.example")
            three = lab.domain("three.example", Behaviour(greylist=True))
            backup = lab.domain("two.example", preference=20)
            assert backup.hostname == "mx2.two.example"
            assert len({host.address for host in (two, three, backup)}) == 3
            resolver = lab.resolver()
            found = await resolver.mx("two.example")
            assert found.records == (MX(10, "mx.two.example"), MX(20, "mx2.two.example"))
            (address,) = (await resolver.a("mx.three.example")).records
            assert (await resolver.ptr(address)).records == ("mx.three.example",)
            assert (await resolver.txt("two.example")).records == (b"v=spf1 mx -all",)
            for code in (451, 250):
                sent = await send_async(
                    address,
                    lab.port,
                    b"hello\r\n",
                    reverse_path="a@one.example",
                    forward_paths=["b@three.example"],
                )
                assert sent.reply.code == code
            assert len(three.peer.accepted) == 1 and not two.peer.received

    asyncio.run(main())


def test_from_a_synchronous_script_with_a_host_of_ones_own() -> None:
    with Lab() as lab:
        ours = lab.domain("one.example", served=False)
        with pytest.raises(LookupError):
            _ = ours.peer
        assert lab.nameserver.startswith("127.0.0.1:")
        two = lab.domain("two.example")
        sent = send(
            two.address, two.port, b"x\r\n", reverse_path="", forward_paths=["bob@two.example"]
        )
        assert sent.accepted and two.peer.wait_for(1)[0].octets == b"x\r\n"
        assert lab.hosts.keys() == {"mx.one.example", "mx.two.example"}

        async def main() -> None:
            assert not await lab.resolver().mx("one.example")  # its own server says what is so

        asyncio.run(main())
