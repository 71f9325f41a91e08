"""A frozen plant as fixtures: made once a module, the same for each of its tests.

>>> frozen, plant = fixtures(make)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from simulators.plant import Plant


def fixtures(make: Callable[[Path], Plant]) -> tuple[Any, Any]:
    """``frozen`` (module scope) and ``plant`` (each test) of one way to make a plant."""

    @pytest.fixture(scope="module")
    def frozen(ground: Path) -> Iterator[Plant]:
        plant = make(ground / "plant")
        plant.freeze()
        yield plant
        plant.wiring.close()

    @pytest.fixture
    def plant(frozen: Plant) -> Plant:
        frozen.thaw()
        return frozen

    return frozen, plant
