"""Thief: the registry's database. It holds what operators believe about devices."""

from __future__ import annotations

import sqlite3

from securesystemslib.signer import CryptoSigner
from simulators.lying import begun, drop, success
from simulators.plant import Plant
from simulators.threats import ONE, TWO, honest

from signing import strict
from signing.enrolment import key_to_dict


def edit(plant: Plant, sql: str, *values: object) -> None:
    """What an owner of the file can do, while nobody has it open."""
    plant.wiring.close()
    database = sqlite3.connect(plant.workspace / "state" / "registry.db")
    assert database.execute(sql, values).rowcount > 0
    database.commit()
    database.close()
    plant.reopen()


# -- can -----------------------------------------------------------------------------------------
def test_it_can_lie_to_gates(plant: Plant) -> None:
    """With a device's key exchanged for its own, its reports count, and the device's do not."""
    rollout = begun(plant)
    mine = CryptoSigner.generate_ecdsa()
    key = strict.compact(key_to_dict(mine.public_key)).decode()
    edit(
        plant,
        "UPDATE devices SET key = ?, keyid = ? WHERE id = 'a'",
        key,
        mine.public_key.keyid,
    )
    drop(plant["a"], success(plant, rollout), mine)
    plant.step(rollout)
    assert plant.status(rollout)["waves"][0]["committed"] == 1
    assert plant["a"].running == ONE, "and it is still not so"


# -- can not -------------------------------------------------------------------------------------
def test_it_can_not_make_a_device_install(plant: Plant) -> None:
    """Labels, components and history as it likes: devices ask the director, and never this file."""
    state = plant.wiring.registry.device("a").components
    assert state["app"].current is not None
    edit(plant, "UPDATE devices SET state = 'restored' WHERE id = 'a'")
    edit(plant, "DELETE FROM reports WHERE device = 'a'")
    for gateway in plant.devices.values():
        assert gateway.look() == []
        assert gateway.running == ONE
    edit(plant, "UPDATE devices SET state = 'active' WHERE id = 'a'")
    honest(plant, "b")
    assert plant["b"].running == TWO
