"""Forged report: somebody other than the device says that the device has succeeded."""

from __future__ import annotations

from securesystemslib.signer import CryptoSigner
from simulators.lying import begun, drop, set_aside, signer, success
from simulators.plant import Plant


def test_the_success_that_the_lies_are_about(plant: Plant) -> None:
    """Signed by the device, about its order: that report would count. The lies differ in one."""
    rollout = begun(plant)
    drop(plant["a"], success(plant, rollout), signer(plant["a"]))
    plant.step(rollout)
    assert plant.status(rollout)["waves"][0]["committed"] == 1


def test_forged(plant: Plant) -> None:
    """Signed by nobody's key: set aside with its code, not counted, nothing learnt."""
    rollout = begun(plant)
    drop(plant["a"], success(plant, rollout), CryptoSigner.generate_ecdsa())
    set_aside(plant, rollout, "statement-signature")
    assert plant.evidence("b") == []


def test_under_the_devices_key_id(plant: Plant) -> None:
    """Another key that calls itself by the device's key id is still another key."""
    rollout = begun(plant)
    forger = CryptoSigner.generate_ecdsa()
    forger.public_key.keyid = signer(plant["a"]).public_key.keyid
    drop(plant["a"], success(plant, rollout), forger)
    set_aside(plant, rollout, "statement-signature")
    assert plant.evidence("b") == []


def test_signed_by_another_device(plant: Plant) -> None:
    """A neighbour's registered key says nothing about this device."""
    rollout = begun(plant)
    drop(plant["a"], success(plant, rollout), signer(plant["b"]))
    set_aside(plant, rollout, "report-wrong-device")
    assert plant.evidence("b") == []


def test_signed_by_the_operators(plant: Plant) -> None:
    """Not the director, not an approver, not a release engineer can speak for a device."""
    rollout = begun(plant)
    for name in ("director-online", "approver", "targets-1"):
        drop(plant["a"], success(plant, rollout), plant.wiring.keyring.signer(name))
    set_aside(plant, rollout, *["statement-signature"] * 3)
    assert plant.evidence("b") == []


def test_of_an_unknown_device(plant: Plant) -> None:
    """Reports register nobody, whoever signed them and wherever they lie."""
    rollout = begun(plant)
    body = success(plant, rollout) | {"device": "ghost"}
    drop(plant["a"], body, CryptoSigner.generate_ecdsa())
    set_aside(plant, rollout, "report-unknown-device")
    assert [d.id for d in plant.wiring.registry.devices()] == ["a", "b"]
