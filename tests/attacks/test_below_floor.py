"""Counter below floor: an older release, listed and signed, from before a security fix."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import Thief
from simulators.threats import threat

FIX = "2.0.1"


def fixed(plant: Plant) -> None:
    """A security fix is committed, its soak is over: the way back is closed."""
    toml = plant["a"].toml
    toml.write_text("security_soak = 0\n" + toml.read_text())
    plant.publish(plant.build(FIX, security_fix=True), plant.build("2.1.0"))
    assert plant.roll_out("fix", FIX)["state"] == "COMPLETED"
    plant["a"].look()
    assert (plant["a"].running, plant["a"].floor) == (b"app 2.0.1", 2)


@pytest.mark.parametrize("version", ["1.0.0", "3.0.0"])
def test_below_floor(plant: Plant, version: str) -> None:
    """However it is ordered, and whatever its display version says: its counter is too low."""
    fixed(plant)
    with threat(plant, "below-floor", keeps=("director", "image"), next_is="2.1.0") as gateway:
        thief = Thief(plant)
        tries: list[dict[str, Any]] = [{}, {"kind": "rollback"}, {"clear_denial": True}]
        for words in tries:
            thief.assign("a", thief.release(version), **words)
            gateway.look()
            assert (gateway.told()[-1], gateway.floor) == ("below-floor", 2), words
