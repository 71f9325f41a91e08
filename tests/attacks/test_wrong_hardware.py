"""Wrong hardware: a listed release that is built for something else (rule 3)."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import Thief
from simulators.threats import threat

WISHES: dict[str, tuple[str, dict[str, Any]]] = {
    "a release for other hardware": ("9.0.0", {}),
    "and the director says that this is it": ("9.0.0", {"hardware_id": "gw-rev-a"}),
    "a fitting release, said to be for other hardware": ("2.0.0", {"hardware_id": "gw-rev-a"}),
}


@pytest.mark.parametrize("wish", WISHES)
def test_wrong_hardware(plant: Plant, wish: str) -> None:
    """Hardware ids are signed offline; the director's key can not talk a device into others."""
    version, words = WISHES[wish]
    with threat(plant, "hardware-mismatch", keeps=("director", "image")):
        thief = Thief(plant)
        thief.assign("a", thief.release(version), **words)
