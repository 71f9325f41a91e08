"""Wrong device: what is signed for one device, shown to another."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import Thief, only, says
from simulators.threats import ONE, ordered, threat
from tuf.api.metadata import Signed, Snapshot, Targets, Timestamp

KINDS: dict[str, type[Any]] = {"timestamp": Timestamp, "snapshot": Snapshot, "targets": Targets}


@pytest.mark.parametrize("role", KINDS)
def test_another_devices_name(plant: Plant, role: str) -> None:
    """Each of the three names the device, exactly; one that does not spoils all."""
    with threat(plant, "director-wrong-device") as gateway:
        thief = Thief(plant)
        for name in ("A", "a ", "", 7, ["a"], "b"):
            thief.publish("a", [thief.target()], only(KINDS[role], says(device=name)))
            gateway.look()
            assert gateway.codes[-1] == "director-wrong-device", name


@pytest.mark.parametrize("role", KINDS)
def test_no_devices_name(plant: Plant, role: str) -> None:
    """Metadata for nobody is for nobody."""

    def silent(signed: Signed) -> None:
        del signed.unrecognized_fields["device"]

    with threat(plant, "director-wrong-device"):
        thief = Thief(plant)
        thief.publish("a", [thief.target()], only(KINDS[role], silent))


def test_another_devices_order(plant: Plant) -> None:
    """A copied hint is refused, set aside and reported; it aims nothing."""
    ordered(plant)
    (hint,) = (plant["a"].spool / "orders").iterdir()
    theirs = plant["b"].spool / "orders"
    with threat(plant, "hint-wrong-device", device="b", next_is="1.0.0") as gateway:
        theirs.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(hint, theirs / hint.name)
    assert gateway.running == ONE
    assert list((gateway.spool / "quarantine").glob("*.reason"))
    assert plant["a"].running == b"app 2.0.0"
