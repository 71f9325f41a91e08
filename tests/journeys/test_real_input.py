"""Real firmware and a real wheel through the whole road, and back to the first of them.

Each is added, signed by two keyholders, published, planned, approved and rolled out in waves;
agents verify, install and report; the next release goes over it; then an operator takes that one
back. What every device holds is compared by hash with the file that the world published.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from simulators import realfiles
from simulators.plant import Part, Plant

from ota.quickstart.devices import HARDWARE
from ota.repositories.release import Build

FLEET = ("gw-1", "gw-2", "gw-3", "gw-4")
WAVES = (
    {"name": "canary", "count": 1},
    {"name": "half", "percent": 50},
    {"name": "rest", "rest": True},
)
SOAKING = (*WAVES[:2], WAVES[2] | {"soak": "1h"})
"""The last wave is still watched when somebody decides to go back."""


def everybody(status: dict[str, Any]) -> bool:
    return sum(w["committed"] for w in status["waves"]) == len(FLEET)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path) -> dict[str, str]:
    """Relative name -> hash of every file."""
    return {str(p.relative_to(folder)): digest(p) for p in folder.rglob("*") if p.is_file()}


def listed(wheel: Path) -> dict[str, str]:
    """The same, of what a zip holds."""
    with zipfile.ZipFile(wheel) as archive:
        files = [i for i in archive.infolist() if not i.is_dir()]
        return {i.filename: hashlib.sha256(archive.read(i)).hexdigest() for i in files}


def test_firmware_of_a_debian_package(ground: Path) -> None:
    """A BIOS image is a ``file`` release: rolled out, replaced by another, taken back."""
    first, second = realfiles.firmware("bios.bin"), realfiles.firmware("bios-256k.bin")
    plant = Plant(ground / "bios", FLEET, [Part("bios")])
    plant.publish(
        Build(first, "bios", "1.16.2-128k", (HARDWARE,)),
        Build(second, "bios", "1.16.2-256k", (HARDWARE,)),
    )
    formats = {r.version: r.format for r in plant.wiring.catalogue.releases().values()}
    assert formats == {"1.16.2-128k": "file", "1.16.2-256k": "file"}

    def held() -> set[str]:
        return {digest(plant[d].home / "bios") for d in FLEET}

    status = plant.roll_out("bios-1", "bios@1.16.2-128k", WAVES)
    assert (status["state"], [w["committed"] for w in status["waves"]]) == ("COMPLETED", [1, 2, 1])
    assert held() == {digest(first)}
    status = plant.drive(plant.start("bios-2", "bios@1.16.2-256k", SOAKING), until=everybody)
    assert held() == {digest(second)}
    plant.wiring.campaign.rollback(status["rollout"], plant.now())
    status = plant.drive(status["rollout"])
    assert (status["state"], status["by_gate"]) == ("ROLLED_BACK", False)
    assert held() == {digest(first)}
    for device in FLEET:
        state = plant.wiring.registry.device(device).components["bios"]
        assert state.current is not None
        assert state.current.sha256 == digest(first)
        assert plant[device].sound()
    assert plant.damage() == []


def test_a_published_wheel(ground: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A wheel is a ``zip`` release, unpacked file by file; rolled out, replaced, taken back."""
    shelf = tmp_path_factory.mktemp("wheels")
    first, second = realfiles.wheel("1.16.0", shelf), realfiles.wheel("1.17.0", shelf)
    plant = Plant(ground / "lib", FLEET, [Part("lib", "dir-symlink")])
    plant.publish(
        Build(first, "lib", "1.16.0", (HARDWARE,)), Build(second, "lib", "1.17.0", (HARDWARE,))
    )
    assert {r.format for r in plant.wiring.catalogue.releases().values()} == {"zip"}

    def everywhere(wheel: Path) -> None:
        for device in FLEET:
            current = plant[device].home / "lib" / "current"
            assert current.resolve().name == digest(wheel)
            assert tree(current.resolve()) == listed(wheel)

    assert plant.roll_out("lib-1", "lib@1.16.0", WAVES)["state"] == "COMPLETED"
    everywhere(first)
    rollout = plant.start("lib-2", "lib@1.17.0", SOAKING)
    plant.drive(rollout, until=everybody)
    everywhere(second)
    back = plant.ota("rollout", "rollback", rollout, "--yes")
    assert back.returncode == 0, back.stderr
    assert plant.drive(rollout)["state"] == "ROLLED_BACK"
    everywhere(first)
    assert all(plant[device].sound() for device in FLEET)
