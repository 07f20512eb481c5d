"""Random valid commands from many clients at once, every answer checked, on two workers.

POSTROAD_STRESS_SECONDS: how long (20); POSTROAD_STRESS_SEED: which chances (by the clock).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator

import pytest

from postroad.lab.process import PostroadServer
from support.stress import Client, stress
from support.stress_wide import Wide
from support.world import World

SECONDS = float(os.environ.get("POSTROAD_STRESS_SECONDS", "20"))
pytestmark = [pytest.mark.interop, pytest.mark.timeout(SECONDS + 180)]


@pytest.fixture(scope="module", params=[0, 2], ids=["one process", "two workers"])
def place(request: pytest.FixtureRequest, shared_world: World) -> Iterator[tuple[int, bytes]]:
    """The IMAP port, and what follows LOGIN."""
    login = f"ann@stress{request.param}.example"
    server: PostroadServer = shared_world.server(
        f"stress{request.param}.example",
        address="127.0.0.1",
        workers=request.param,
        plaintext_on_loopback=True,
    )
    server.add_account(login, "stress")
    server.start()
    yield server.port("imap"), f"{login} stress".encode()
    assert server.stop() == 0, server.log_end()


@pytest.mark.parametrize(
    ("boxes", "kind"),
    [([b"One"], Client), ([b"One", b"Two", b"Three"], Client), ([b"Uno", b"Due"], Wide)],
    ids=["one", "three", "wide"],
)
def test_nothing_wrong_is_said(
    place: tuple[int, bytes], boxes: list[bytes], kind: type[Client]
) -> None:
    seed = int(os.environ.get("POSTROAD_STRESS_SEED", str(int(time.time()))))
    print(f"seed {seed}")
    port, login = place
    doing = stress(port, login, clients=8, seconds=SECONDS, seed=seed, boxes=boxes, kind=kind)
    record = asyncio.run(doing)
    assert sum(record.commands.values()) > SECONDS * 20, record.commands
