"""Thief: the broker. Whoever carries hints out and reports back, and holds no key.

The spool stands here for every courier: a hint is unsigned, a report is signed, on all of them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.lying import begun, completes, drop, drop_bytes, set_aside, success
from simulators.plant import Plant
from simulators.thief import put
from simulators.threats import ONE, TWO, honest, ordered, threat

from signing import statement


# -- can -----------------------------------------------------------------------------------------
def test_it_can_read(plant: Plant) -> None:
    """Hints and reports are in the clear; there is nothing in them that opens anything."""
    ordered(plant)
    (hint,) = (plant["a"].spool / "orders").iterdir()
    assert set(json.loads(hint.read_bytes())) == {"schema", "device", "order", "rollout"}
    plant["a"].look()
    told = [statement.peek("report", p.read_bytes()).body for p in plant["a"].waiting()]
    assert told[-1]["components"]["app"]["current"]["path"] == "app/app-2.0.0.bin"


def test_it_can_lose_hints(plant: Plant) -> None:
    """The next poll finds what was signed."""
    rollout = ordered(plant)
    shutil.rmtree(plant["a"].spool / "orders")
    plant["a"].look()
    assert plant["a"].running == TWO
    assert plant.drive(rollout)["state"] == "COMPLETED"


def test_it_can_lose_reports(plant: Plant) -> None:
    """Then a device is silent: no wave goes on because of silence, and a gate stops at its limit."""
    rollout = begun(plant)
    plant["a"].look()
    assert plant["a"].running == TWO
    for report in plant["a"].waiting():
        report.unlink()
    plant.later(minutes=11)
    plant.step(rollout)
    status = plant.status(rollout)
    assert (status["state"], plant["b"].running) != ("COMPLETED", TWO)
    assert status["waves"][0]["committed"] == 0


def test_it_can_wake_a_device(plant: Plant) -> None:
    """As often as it likes; a device looks, finds nothing, and says nothing."""
    name = "ota-two-aaaaaa-u1-w0-b0"
    hint = {"schema": 1, "device": "a", "order": name, "rollout": "two-aaaaaa"}
    for number in range(5):
        put(plant["a"].spool / "orders" / f"{number}.json", json.dumps(hint).encode())
        assert plant["a"].look() == []
    assert (plant["a"].running, plant["a"].codes) == (ONE, [])
    honest(plant)


# -- can not -------------------------------------------------------------------------------------
def test_it_can_not_aim(plant: Plant) -> None:
    """A hint for one device in another's folder is refused, and orders nothing."""
    ordered(plant)
    (hint,) = (plant["a"].spool / "orders").iterdir()
    with threat(plant, "hint-wrong-device", device="b", next_is="1.0.0"):
        put(plant["b"].spool / "orders" / hint.name, hint.read_bytes())


def test_it_can_not_order(plant: Plant) -> None:
    """A hint that says more than "look" is none, whatever it says."""
    more = {"schema": 1, "device": "a", "order": "x", "rollout": "y", "path": "app/app-2.0.0.bin"}
    with threat(plant, "hint-malformed"):
        put(plant["a"].spool / "orders" / "0.json", json.dumps(more).encode())


def _half(path: Path) -> bytes:
    return path.read_bytes()[:200]


def _flip(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


@pytest.mark.parametrize("damage", [_half, _flip])
@pytest.mark.parametrize("named", ["as before", "by its new content"])
def test_it_can_not_change_a_report(
    plant: Plant, damage: Callable[[Path], bytes], named: str
) -> None:
    """A report that was touched is set aside; the device is silent, and nobody believes for it."""
    rollout = begun(plant)
    plant["a"].look()
    for report in plant["a"].waiting():
        data = damage(report)
        if named == "as before":
            put(report, data)
        else:
            report.unlink()
            drop_bytes(plant["a"], data, int(report.name.partition("-")[0]))
    plant.step(rollout)
    status = plant.status(rollout)
    assert status["waves"][0]["committed"] == 0
    assert plant.evidence("a")
    assert plant["b"].running == ONE


def test_it_can_not_report(plant: Plant) -> None:
    """Nor can it make one up: not with a key of its own, and not about anybody else."""
    rollout = begun(plant)
    drop(plant["a"], success(plant, rollout), CryptoSigner.generate_ecdsa())
    set_aside(plant, rollout, "statement-signature")
    assert plant.evidence("b") == []


def test_it_can_not_repeat_a_report(plant: Plant) -> None:
    """What was said once counts once."""
    history = plant.wiring.registry.history("a", 100)
    rollout = begun(plant)
    for stored in history:
        drop_bytes(plant["a"], stored.envelope, stored.report.counter)
    plant.step(rollout)
    assert plant.status(rollout)["waves"][0]["committed"] == 0
    assert len(plant.wiring.registry.history("a", 100)) == len(history)
    completes(plant, rollout)
