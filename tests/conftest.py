"""Shared by every test: how long property tests look for a counterexample, and an AWS of one's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from simulators.ministack import Account, Server

settings.register_profile("default", deadline=None, max_examples=60)
settings.register_profile(
    "fuzz", deadline=None, max_examples=5_000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def ministack() -> Iterator[Server]:
    """One emulator of AWS for the whole session (for each worker of it)."""
    from simulators import ministack as emulator  # noqa: PLC0415 - boto3 is slow to import

    with emulator.running() as server:
        yield server


@pytest.fixture
def aws(ministack: Server) -> Account:
    """An AWS account that nobody else uses, empty."""
    return ministack.account()
