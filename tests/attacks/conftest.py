"""One plant for all threats of a process: made once, and for each test as it was when made."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("simulators.threats")

from simulators import threats  # noqa: E402 - its assertions are rewritten
from simulators.grounds import ground, roomy  # noqa: E402 - the same
from simulators.plant import Plant  # noqa: E402 - the same

__all__ = ["ground"]


@pytest.fixture(scope="session")
def standing() -> Iterator[Plant]:
    """The plant of :func:`simulators.threats.standing`, frozen."""
    with tempfile.TemporaryDirectory(dir=roomy(), prefix="threats-") as folder:
        plant = threats.standing(Path(folder) / "plant")
        plant.freeze()
        yield plant
        plant.wiring.close()


@pytest.fixture
def plant(standing: Plant) -> Plant:
    """As it was frozen."""
    standing.thaw()
    return standing
