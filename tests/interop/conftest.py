"""One running server for the clients of this folder: domain x.example, ann and bob."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from postroad.lab.process import PostroadServer
from support.world import World, world


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("interop")) as made:
        yield made


@pytest.fixture(scope="session")
def server(shared_world: World) -> Iterator[PostroadServer]:
    running = shared_world.server("x.example", address="127.0.0.1", workers=2)
    running.add_account("ann@x.example", "ann secret")
    running.add_account("bob@x.example", "bob secret")
    running.start()
    yield running
    assert running.stop() == 0, running.log_end()


@pytest.fixture
def mailbox(request: pytest.FixtureRequest) -> str:
    """A local part of this test's own."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


@pytest.fixture
def certificate(server: PostroadServer) -> Path:
    return server.directory / "tls" / "cert.pem"
