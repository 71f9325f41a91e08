"""Nobody lies about a device: forged, replayed, copied and contradicting reports move no gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from simulators.plant import Gateway, Plant
from simulators.plants import fixtures

from ota.agent import identity
from signing import statement, strict

ONE, TWO = b"app 1.0.0", b"app 2.0.0"
WAVES = ({"name": "canary", "devices": ["a"]}, {"name": "rest", "rest": True})


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ["a", "b"])
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    return plant


frozen, plant = fixtures(_make)


def signer(gateway: Gateway) -> Signer:
    """The device's own key, as somebody who broke into it has it."""
    return identity.load(gateway.home / "state" / "identity")


def last(gateway: Gateway) -> dict[str, Any]:
    """The body of the newest report that the registry holds."""
    stored = gateway.plant.wiring.registry.history(gateway.id, 1)[0]
    body: dict[str, Any] = json.loads(json.dumps(statement.peek("report", stored.envelope).body))
    return body


def drop(gateway: Gateway, body: dict[str, Any], key: Signer) -> str:
    """Leave a signed report in a device's spool folder; its file's name."""
    data = statement.sign("report", body, key)
    return drop_bytes(gateway, data, body["counter"])


def drop_bytes(gateway: Gateway, data: bytes, counter: int) -> str:
    name = f"{counter:010d}-{strict.digest(data)[:8]}.json"
    folder = gateway.spool / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    return name


def success(plant: Plant, rollout: str) -> dict[str, Any]:
    """What ``a`` would sign if it had installed what it was ordered."""
    (order,) = [e["body"] for e in plant.wiring.campaign.history(rollout) if e["kind"] == "order"]
    assignment = plant.wiring.desk.assignments("a")["app"]
    body = last(plant["a"])
    body["counter"] += 1
    body["event"] = "outcome"
    body["code"] = ""
    body["components"]["app"]["current"] = {
        "sha256": assignment.sha256,
        "length": assignment.length,
        "path": assignment.path,
        "version": "2.0.0",
        "release_counter": assignment.release_counter,
    }
    body["update"] = {
        "order": order["id"],
        "rollout": rollout,
        "wave": 0,
        "component": "app",
        "kind": "update",
        "path": assignment.path,
        "sha256": assignment.sha256,
        "targets_version": 3,
        "phase": "DONE",
        "outcome": "committed",
    }
    return body


def begun(plant: Plant) -> str:
    """``a`` has its order, and has not looked."""
    rollout = plant.start("two", "2.0.0", WAVES)
    plant.step(rollout)
    return rollout


def unmoved(plant: Plant, rollout: str) -> dict[str, Any]:
    """After a step: nothing committed, the next wave not begun; the honest device completes it."""
    plant.step(rollout)
    status = plant.status(rollout)
    assert status["wave"] == 0
    assert status["waves"][0]["committed"] == 0
    return status


def completes(plant: Plant, rollout: str) -> None:
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert set(plant.runs().values()) == {TWO.decode()}


def test_the_success_that_the_lies_are_about(plant: Plant) -> None:
    """Signed by the device, about its order: that report would count. The lies differ in one."""
    rollout = begun(plant)
    drop(plant["a"], success(plant, rollout), signer(plant["a"]))
    plant.step(rollout)
    assert plant.status(rollout)["waves"][0]["committed"] == 1


def test_forged(plant: Plant) -> None:
    """Signed by nobody's key: set aside with its code, not counted, nothing learnt."""
    rollout = begun(plant)
    counter = plant.wiring.registry.device("a").counter
    drop(plant["a"], success(plant, rollout), CryptoSigner.generate_ecdsa())
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["statement-signature"]
    assert plant.wiring.registry.device("a").counter == counter
    completes(plant, rollout)


def test_signed_by_another_device(plant: Plant) -> None:
    """A neighbour's registered key says nothing about this device."""
    rollout = begun(plant)
    drop(plant["a"], success(plant, rollout), signer(plant["b"]))
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["report-wrong-device"]
    completes(plant, rollout)


def test_signed_by_the_operators(plant: Plant) -> None:
    """Not the director, not an approver, not a release engineer can speak for a device."""
    rollout = begun(plant)
    for name in ("director-online", "approver", "targets-1"):
        drop(plant["a"], success(plant, rollout), plant.wiring.keyring.signer(name))
        unmoved(plant, rollout)
    assert plant.evidence("a") == ["statement-signature"] * 3
    completes(plant, rollout)


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an order that was never issued": lambda u: u.update(order="ota-two-aaaaaa-u1-w0-b0"),
    "another rollout": lambda u: u.update(rollout="two-aaaaaa"),
    "another wave": lambda u: u.update(wave=1),
    "another kind": lambda u: u.update(kind="rollback"),
    "other bytes": lambda u: u.update(sha256="0" * 64),
    "another path": lambda u: u.update(path="app/app-1.0.0.bin"),
    "another component": lambda u: u.update(component="os"),
    "no director version": lambda u: u.update(targets_version=0),
}


@pytest.mark.parametrize("what", LIES)
def test_the_right_key_about_a_wrong_order(plant: Plant, what: str) -> None:
    """It must repeat the signed order to the letter; otherwise it is listed as mismatched."""
    rollout = begun(plant)
    body = success(plant, rollout)
    LIES[what](body["update"])
    drop(plant["a"], body, signer(plant["a"]))
    status = unmoved(plant, rollout)
    assert "a" in status["mismatched"] or status["waves"][0]["pending"] == 1


def test_says_committed_and_runs_the_old_one(plant: Plant) -> None:
    """The signed state of the component must agree with the claim."""
    rollout = begun(plant)
    body = success(plant, rollout)
    body["components"] = last(plant["a"])["components"]
    drop(plant["a"], body, signer(plant["a"]))
    assert "a" in unmoved(plant, rollout)["mismatched"]


def test_replayed(plant: Plant) -> None:
    """Bytes from yesterday are recognised: the same again is nothing, an older one is set aside."""
    history = plant.wiring.registry.history("a", 100)
    before = plant.wiring.registry.device("a").counter
    rollout = begun(plant)
    for stored in history:
        drop_bytes(plant["a"], stored.envelope, stored.report.counter)
    unmoved(plant, rollout)
    assert plant.wiring.registry.device("a").counter == before
    assert len(plant.wiring.registry.history("a", 100)) == len(history)
    assert plant.evidence("a") == []
    completes(plant, rollout)


def test_replayed_after_a_gap(plant: Plant) -> None:
    """A counter below the newest that was never seen before is a replay, set aside by its name."""
    body = last(plant["a"])
    body["counter"] += 5
    drop(plant["a"], body, signer(plant["a"]))
    plant.wiring.campaign.observe(plant.now())
    assert plant.wiring.registry.device("a").counter == body["counter"]
    rollout = begun(plant)
    late = success(plant, rollout)
    late["counter"] = body["counter"] - 2
    drop(plant["a"], late, signer(plant["a"]))
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["report-replayed"]


def test_two_contents_under_one_counter(plant: Plant) -> None:
    """The first stands; the contradiction is set aside by its name, for a person to see."""
    rollout = begun(plant)
    body = success(plant, rollout)
    body["counter"] -= 1
    drop(plant["a"], body, signer(plant["a"]))
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["report-equivocation"]


def test_a_new_incarnation_waits_for_a_person(plant: Plant) -> None:
    """A copied or restored disk reports under a new ``state_id``: held, and counted by no gate."""
    rollout = begun(plant)
    body = success(plant, rollout) | {"state_id": "somebody-new", "counter": 1}
    drop(plant["a"], body, signer(plant["a"]))
    unmoved(plant, rollout)
    device = plant.wiring.registry.device("a")
    assert (device.state, device.held_state_id) == ("restored", "somebody-new")


def test_of_an_unknown_device(plant: Plant) -> None:
    """Reports register nobody, whoever signed them and wherever they lie."""
    rollout = begun(plant)
    body = success(plant, rollout) | {"device": "ghost"}
    drop(plant["a"], body, CryptoSigner.generate_ecdsa())
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["report-unknown-device"]
    assert [d.id for d in plant.wiring.registry.devices()] == ["a", "b"]


@pytest.mark.parametrize("kind", ["plan", "approval", "enrolment"])
def test_another_kind_of_statement(plant: Plant, kind: str) -> None:
    """One key, one purpose, one exact type: a signed body of another type is no report."""
    rollout = begun(plant)
    data = statement.sign(kind, success(plant, rollout), signer(plant["a"]))
    drop_bytes(plant["a"], data, 999)
    unmoved(plant, rollout)
    assert plant.evidence("a") == ["statement-malformed"]
