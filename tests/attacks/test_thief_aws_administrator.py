"""Thief: the AWS administrator. Bucket, broker and jobs together, every switch, and no key.

Whoever administers the account carries everything: what devices fetch, when they look, and what
operators hear. (An administrator who may also *use* the director's KMS key has that key: see
``test_thief_director_key.py``. So its key policy names the publisher's role, and nobody else.)
"""

from __future__ import annotations

import json
import shutil

from securesystemslib.signer import CryptoSigner
from simulators.lying import begun, drop, signer, success
from simulators.plant import Plant
from simulators.thief import put
from simulators.threats import (
    ONE,
    TWO,
    Remembered,
    honest,
    named,
    ordered,
    restore,
    sees,
    unchanged,
)

from signing import layout, strict

IMAGE = layout.image_target("app/app-2.0.0.bin", strict.digest(TWO))


def wake(plant: Plant, device: str) -> None:
    """A job of the administrator's own for a device."""
    hint = {"schema": 1, "device": device, "order": "ota-evil-aaaaaa-u1-w0-b0", "rollout": "evil"}
    put(plant[device].spool / "orders" / "evil.json", json.dumps(hint).encode())
    plant[device].look()


# -- can -----------------------------------------------------------------------------------------
def test_it_can_stop_updates(plant: Plant) -> None:
    """Everything withheld: devices run on and say so as soon as anybody hears them."""
    rollout = ordered(plant)
    away = plant.store.rename(plant.folder / "away")
    plant.store.mkdir()
    shutil.rmtree(plant["a"].spool / "orders")
    plant["a"].look()
    assert plant["a"].running == ONE
    shutil.rmtree(plant.store)
    away.rename(plant.store)
    assert named(plant["a"], ("missing",), "outage").components["app"].current
    plant["a"].look()
    assert plant.drive(rollout)["state"] == "COMPLETED"


def test_it_can_delay_until_expiry(plant: Plant) -> None:
    """Frozen and silent for a month: nothing happens, then it is stale; nothing is lost by it."""
    rollout = ordered(plant)
    frozen = shutil.copytree(plant.store, plant.folder / "frozen")
    plant.wiring.campaign.abort(rollout, plant.now(), "leave")
    restore(plant.store, frozen)
    plant.later(days=4)
    wake(plant, "a")
    assert plant["a"].running == ONE, "the order that it froze has expired with its timestamp"
    assert "stale" in plant["a"].codes
    plant.wiring.refresh(every=True)
    honest(plant)


def test_it_can_hide_who_did_well(plant: Plant) -> None:
    """Reports withheld stop a rollout; they can not make one go on."""
    rollout = begun(plant)
    plant["a"].look()
    for report in plant["a"].waiting():
        report.unlink()
    plant.later(minutes=11)
    for _ in range(3):
        plant.step(rollout)
    assert plant.status(rollout)["state"] != "COMPLETED"
    assert (plant["a"].running, plant["b"].running) == (TWO, ONE)


# -- can not -------------------------------------------------------------------------------------
def test_it_can_not_bring_software(plant: Plant) -> None:
    """Its own metadata, its own image, its own job: signed by keys that no device knows."""
    gateway = plant["a"]
    ordered(plant)
    sees(gateway)
    before = Remembered.of(gateway)
    kept = shutil.copytree(plant.store, plant.folder / "kept")
    key = CryptoSigner.generate_ed25519()
    for file in gateway.director("").iterdir():
        body = json.loads(file.read_bytes())
        body["signed"]["version"] += 1
        body["signatures"] = [{"keyid": key.public_key.keyid, "sig": "00" * 64}]
        put(file, json.dumps(body).encode())
    put(plant.store / IMAGE, b"app evil!")
    wake(plant, "a")
    unchanged(gateway, before)
    named(gateway, ("signature",), "refusal")
    restore(plant.store, kept)
    honest(plant)


def test_it_can_not_turn_back(plant: Plant) -> None:
    """The whole account as it was last week, to a device that has been here since."""
    week = shutil.copytree(plant.store, plant.folder / "week")
    assert plant.roll_out("two", "2.0.0")["state"] == "COMPLETED"
    gateway = plant["a"]
    before = Remembered.of(gateway)
    kept = shutil.copytree(plant.store, plant.folder / "kept")
    restore(plant.store, week)
    wake(plant, "a")
    unchanged(gateway, before)
    named(gateway, ("metadata-rollback",), "refusal")
    restore(plant.store, kept)
    honest(plant, version="3.0.0")


def test_it_can_not_exchange_devices(plant: Plant) -> None:
    """One device's folder, one device's jobs, one device's reports given to the other."""
    rollout = ordered(plant, "b")
    gateway = plant["a"]
    before = Remembered.of(gateway)
    for file in plant["b"].director("").iterdir():
        put(gateway.director(file.name), file.read_bytes())
    (hint,) = (plant["b"].spool / "orders").iterdir()
    put(gateway.spool / "orders" / hint.name, hint.read_bytes())
    gateway.look()
    unchanged(gateway, before)
    told = gateway.told()
    assert {"hint-wrong-device", "director-wrong-device"} <= set(told)
    plant["b"].look()
    for report in plant["b"].waiting():
        put(gateway.spool / "reports" / report.name, report.read_bytes())
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert plant.wiring.registry.device("a").components["app"].current is not None
    assert gateway.running == ONE


def test_it_can_not_speak_for_a_device(plant: Plant) -> None:
    """No gate is moved by anything but the device's own key, in the device's own time."""
    rollout = begun(plant)
    body = success(plant, rollout)
    drop(plant["a"], body, CryptoSigner.generate_ecdsa())
    drop(plant["a"], body, signer(plant["b"]))
    plant.step(rollout)
    status = plant.status(rollout)
    assert (status["wave"], status["waves"][0]["committed"]) == (0, 0)
    assert set(plant.evidence("a")) == {"statement-signature", "report-wrong-device"}
    assert plant.drive(rollout)["state"] == "COMPLETED"
