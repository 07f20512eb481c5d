"""The store process and its clients: what the wire carries, and what happens when an end dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroad.database import wire
from postroad.database.contract import Notice, Operation, Topic
from postroad.database.local import LocalDatabase
from postroad.database.remote import RemoteDatabase
from postroad.mail.errors import Fault, StateError, Unavailable
from postroad.queue.operations import Remember
from postroad.service import stored
from postroad.service.stored import OPERATIONS, StoreServer
from postroad.store.blobs import BlobStore
from postroad.store.mailboxes import MailStore
from postroad.store.operations import Append
from postroad.store.verify import verify
from support.state import BOB, INBOX, NOW, content_for, opened

SERVER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    from support.state import add_bob
    from postroad.database.local import LocalDatabase
    from postroad.service.stored import StoreServer

    async def main():
        database = LocalDatabase.open(Path(sys.argv[1]))
        if database.first("SELECT 1 FROM account") is None:
            await add_bob(database)
        server = StoreServer(database)
        await server.start()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.close()
        await database.close()

    asyncio.run(main())
    """
)


def start_server(data_dir: Path) -> subprocess.Popen[bytes]:
    tests = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": tests},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def remember(text: str) -> Remember:
    return Remember(message=text, records=((1.0, b"{}"),))


@given(st.lists(st.binary(max_size=30)), st.lists(st.integers(1, 9), max_size=40))
def test_cuts_change_no_frame(bodies: list[bytes], cuts: list[int]) -> None:
    octets = b"".join(wire.frame(body) for body in bodies)
    frames = wire.Frames()
    found: list[bytes] = []
    at = 0
    for size in cuts:
        found += frames.receive(octets[at : at + size])
        at += size
    found += frames.receive(octets[at:])
    assert [msgspec.msgpack.decode(frame) for frame in found] == bodies


def test_a_frame_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(wire.WireError):
        wire.Frames().receive(b"\xff\xff\xff\xff")


def test_every_operation_crosses_the_border() -> None:
    names = {kind.__name__ for kind in OPERATIONS}
    assert {"Append", "Copy", "Enqueue", "Settle", "AddAccount", "Remember", "Forget"} <= names
    assert len(names) == len(OPERATIONS)
    operation = Append(
        account=BOB,
        mailbox=0,
        content=content_for("p1:0:5:5", b"\x00\xff", 5),
        keywords=(b"\xff",),
        internal_date=NOW,
    )
    (call,) = stored._decoder().decode(wire.frame([wire.Call(7, (operation,))])[4:])
    assert call == (7, [operation])


def test_a_store_process_is_killed_and_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        process = start_server(tmp_path)
        blobs = BlobStore.open(tmp_path)
        database = await RemoteDatabase.connect(tmp_path)
        store = MailStore(database, blobs)
        heard: list[Notice] = []
        database.subscribe(BOB, heard.append)

        async def append(name: str) -> object:
            content = content_for(blobs.append(name.encode()), b"", len(name))
            (done,) = await database.submit(
                Append(account=BOB, mailbox=0, content=content, internal_date=NOW, delivery_id=name)
            )
            return done

        try:
            first = await append("first")
            process.send_signal(signal.SIGSTOP)
            waiting = asyncio.gather(
                *(append(f"w{number}") for number in range(5)), return_exceptions=True
            )
            await asyncio.sleep(0.05)
            process.kill()
            outcomes = await waiting
            assert all(isinstance(outcome, Unavailable) for outcome in outcomes)
            process.wait()
            later = asyncio.ensure_future(append("later"))
            process = await asyncio.to_thread(start_server, tmp_path)
            await later
            for number in range(5):
                await append(f"w{number}")
            assert await append("first") == first
            found = store.mailbox_by_id(BOB, INBOX)
            assert found is not None and found.messages == 7
            everything = [item for item in heard if item.mailbox == 0]
            assert {item.topic for item in everything} == set(Topic)
        finally:
            await database.close()
            blobs.close()
            if process.stdin is not None:
                process.stdin.close()
            assert process.wait(10) == 0
        assert list(verify(tmp_path)) == []

    asyncio.run(main())


def test_a_client_that_dies_hurts_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("remote", tmp_path) as state:
            other = await RemoteDatabase.connect(tmp_path)
            pending = [asyncio.ensure_future(other.submit(remember(f"m{n}"))) for n in range(20)]
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await other.close()
            outcomes = await asyncio.gather(*pending, return_exceptions=True)
            assert all(isinstance(outcome, Unavailable | list) for outcome in outcomes)
            with pytest.raises(Unavailable):
                await other.submit(remember("late"))
            await state.append()

    asyncio.run(main())


def test_what_is_no_frame_ends_that_client_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("remote", tmp_path) as state:
            path = str(tmp_path / wire.SOCKET_PATH)
            for junk in (
                b"\xff\xff\xff\xff",
                wire.frame("what"),
                wire.frame([[1, [{"type": "DropEverything"}]]]),
                wire.frame([[1, [{"type": "Append"}]]]),
            ):
                reader, writer = await asyncio.open_unix_connection(path)
                writer.write(junk)
                await reader.read()
                writer.close()
            await state.append()

    asyncio.run(main())


def test_a_client_that_does_not_read_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "UNREAD_OCTETS_MAX", 100_000)

    async def main() -> None:
        events: list[object] = []
        local = LocalDatabase.open(tmp_path)
        server = StoreServer(local, events.append)
        await server.start()
        deaf = socket.socket(socket.AF_UNIX)
        deaf.connect(str(tmp_path / wire.SOCKET_PATH))
        await asyncio.sleep(0.05)
        notices = [Notice(Topic.QUEUE, subject="x" * 60) for _ in range(500)]
        for _ in range(100):
            server._notify(notices)
            await asyncio.sleep(0)
        assert len(events) == 1 and not server.clients
        deaf.close()
        await server.close()
        await local.close()

    asyncio.run(main())


def test_a_flood_of_units_is_held_back_and_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "IN_FLIGHT_MAX", 10)

    async def main() -> None:
        async with opened("remote", tmp_path) as state:
            for _ in range(3):
                done = await asyncio.gather(
                    *(state.database.submit(remember(f"m{n}")) for n in range(200))
                )
                assert done == [[None]] * 200

    asyncio.run(main())


def test_errors_come_back_as_they_were(tmp_path: Path) -> None:
    class Unknown(Operation[None], frozen=True):
        what: object

    async def main() -> None:
        async with opened("remote", tmp_path) as state:
            bad = Append(account=5, mailbox=0, content=state.content(), internal_date=NOW)
            with pytest.raises(StateError, match="no such account") as caught:
                await state.database.submit(bad)
            assert caught.value.fault is Fault.NONEXISTENT
            with pytest.raises(TypeError):
                await state.database.submit(Unknown(object()))
            odd = content_for("no blob", b"", 1)
            with pytest.raises(Unavailable, match="not a reference"):
                await state.database.submit(
                    Append(account=BOB, mailbox=0, content=odd, internal_date=NOW)
                )
            await state.append()

    asyncio.run(main())


def test_a_long_path_is_no_obstacle(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened("remote", tmp_path / ("d" * 100) / ("e" * 100)) as state:
            await state.append()

    asyncio.run(main())


def test_nobody_there_is_unavailable(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(Unavailable):
            await RemoteDatabase.connect(tmp_path, timeout_s=0.1)

    asyncio.run(main())
