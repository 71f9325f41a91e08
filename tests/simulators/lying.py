"""Reports as a liar would like them: whatever it signs, and whoever's folder it leaves it in.

>>> rollout = begun(plant)                      # ``a`` has its order, and has not looked
>>> drop(plant["a"], success(plant, rollout), CryptoSigner.generate_ecdsa())
>>> unmoved(plant, rollout)
"""

from __future__ import annotations

import json
from typing import Any

from securesystemslib.signer import Signer
from simulators.plant import Gateway, Plant
from simulators.thief import put

from ota.agent import identity
from signing import statement, strict

TWO = "app 2.0.0"
WAVES = ({"name": "canary", "devices": ["a"]}, {"name": "rest", "rest": True})


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
    return drop_bytes(gateway, statement.sign("report", body, key), body["counter"])


def drop_bytes(gateway: Gateway, data: bytes, counter: int) -> str:
    """Leave any bytes there, under the name that a report of that counter would have."""
    name = f"{counter:010d}-{strict.digest(data)[:8]}.json"
    put(gateway.spool / "reports" / name, data)
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
    """After a step nothing counts as committed and the next wave has not begun; the status."""
    plant.step(rollout)
    status = plant.status(rollout)
    assert status["wave"] == 0
    assert status["waves"][0]["committed"] == 0
    assert not plant["b"].hinted
    return status


def set_aside(plant: Plant, rollout: str, *codes: str, device: str = "a") -> None:
    """The lie is refused: named, kept as evidence, and it has taught the registry nothing.

    Then the honest device completes the rollout, and its own signed report says so.
    """
    registry = plant.wiring.registry
    before = registry.device("a")
    devices = [d.id for d in registry.devices()]
    unmoved(plant, rollout)
    assert plant.evidence(device) == list(codes)
    after = registry.device("a")
    assert (after.counter, after.components) == (before.counter, before.components)
    assert [d.id for d in registry.devices()] == devices
    completes(plant, rollout)


def completes(plant: Plant, rollout: str) -> None:
    """The honest devices do what they were ordered, and the registry holds their signed word."""
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert set(plant.runs().values()) == {TWO}
    for gateway in plant.devices.values():
        (latest,) = plant.wiring.registry.history(gateway.id, 1)
        key = plant.wiring.registry.device(gateway.id).key
        assert statement.verify("report", latest.envelope, [key]).signers == (key.keyid,)
        current = latest.report.components["app"].current
        assert current is not None
        assert current.path == "app/app-2.0.0.bin"
