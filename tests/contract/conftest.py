"""What the contract suites run against: databases, and a broker that devices would have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators import broker as brokers
from simulators import jobs_service, postgres
from simulators.broker import Broker
from simulators.jobs_service import JobsService

from ota.fleet.registry import Registry


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[postgres.Postgres]:
    """One server for the whole session (for each worker of it)."""
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database, once for each engine that the registry supports."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    server: postgres.Postgres = request.getfixturevalue("postgres_server")
    return server.database()


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """An empty registry on each of them."""
    opened = Registry(database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One Mosquitto for the whole session (for each worker of it); whoever stops it starts it."""
    with brokers.running(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="session")
def service(broker: Broker) -> Iterator[JobsService]:
    """The Jobs service on it."""
    with jobs_service.serving(broker) as running:
        yield running
