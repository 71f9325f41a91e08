"""Shared by every test: how long property tests look for a counterexample, and an AWS of one's own.

``default`` is what CI runs: the same examples each time, so that a red run is red again.
``fuzz`` (``make fuzz``, ``make fuzz EXAMPLES=20000``) looks elsewhere each time and remembers what
it found in ``.hypothesis/``; whatever it finds is mended with a plain test of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from simulators.ministack import Account, Server

settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("EXAMPLES", "2000")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
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
