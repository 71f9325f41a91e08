"""Wrong component: a release of one part of a device, ordered for another part of it."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief
from simulators.threats import take_off, threat
from tuf.api.metadata import TargetFile


@pytest.mark.parametrize("lie", ["component", "path"])
def test_an_order_that_disagrees_with_itself(plant: Plant, lie: str) -> None:
    """A path of ``mcu`` ordered for ``app``, or a component that the path is not of."""
    with threat(plant, "assignment-malformed", "component-unknown"):
        thief = Thief(plant)
        target = thief.target()
        if lie == "component":
            target.unrecognized_fields["custom"]["component"] = "mcu"
        else:
            mcu = thief.release("1.0.0", "mcu")
            target.path, target.length, target.hashes = mcu.path, mcu.length, dict(mcu.hashes)
        thief.publish("a", [target])


@pytest.mark.parametrize("said", ["mcu", None])
def test_a_release_that_disagrees_with_itself(plant: Plant, said: Any) -> None:
    """Signed by enough engineers as ``app/...``, and described as something else."""
    engineers = ImageThief(plant, "targets-1", "targets-2")
    with threat(plant, "component-mismatch", keeps=("director", "image")):
        role = engineers.lists("app/odd.bin", b"odd", component=said)
        order(plant, role.targets["app/odd.bin"])
        engineers.publish(roles={"app": role})
    take_off(plant, "app/odd.bin")


def order(plant: Plant, listed: TargetFile) -> None:
    """The director's key orders what the image repository is about to list."""
    thief = Thief(plant)
    words = {"path": listed.path, "length": listed.length, "hashes": dict(listed.hashes)}
    thief.assign("a", thief.release("2.0.0"), **words)
