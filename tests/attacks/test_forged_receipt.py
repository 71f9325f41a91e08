"""A device's last word, as somebody would like it: forged, another's, old, or of one that lives.

Each is refused by its own name, the device stays in service and nothing is written; the honest
receipt is taken in afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Signer
from simulators import lying
from simulators import plantplaybooks as playbooks
from simulators.plant import Plant
from simulators.plants import fixtures

from ota.cli.app import run
from ota.errors import NotPermitted, OtaError
from signing import statement

NAME = "wipe@1.0.0"
TEXT = """\
name: wipe
version: 1.0.0
summary: Destroy the agent's keys and state
platforms: [linux]
roads: [agent]
parameters:
  receipt: {type: path, description: where the receipt stays}
steps:
  - name: wipe
    wipe: {receipt: "${receipt}"}
"""
KEYS: dict[str, Signer] = {}
"""The devices' own keys, as somebody who copied them beforehand has them."""


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ("a", "b"))
    KEYS.update({name: lying.signer(plant[name]) for name in "ab"})
    playbooks.publish(plant, TEXT)
    rollout = playbooks.start(
        plant, NAME, {"receipt": str(folder / "receipt.json")}, select="id in (a)"
    )
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert not (plant["a"].home / "state" / "identity").exists()
    return plant


frozen, plant = fixtures(_make)


def honest(plant: Plant) -> bytes:
    return (plant.folder / "receipt.json").read_bytes()


def body(plant: Plant) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(statement.peek("receipt", honest(plant)).body))
    return found


def said(plant: Plant, key: str = "a", **words: Any) -> bytes:
    """The receipt with other words, signed by a device's real key."""
    return statement.sign("receipt", body(plant) | words, KEYS[key])


def leave(plant: Plant, device: str, receipt: bytes | None) -> None:
    plant.wiring.leaving.leave(device, receipt, plant.now())


def rows(plant: Plant) -> dict[str, Any]:
    """What the registry holds of both devices' ends."""
    registry = plant.wiring.registry
    return {n: (registry.device(n), registry.retirements(n)) for n in "ab"}


def _stranger(plant: Plant) -> bytes:
    return statement.sign("receipt", body(plant), CryptoSigner.generate_ecdsa())


def _changed(plant: Plant) -> bytes:
    envelope = json.loads(honest(plant))
    other = json.loads(said(plant, destroyed=["nothing"]))
    return json.dumps(envelope | {"payload": other["payload"]}).encode()


def _report(plant: Plant) -> bytes:
    """A signed report in the place of a receipt."""
    return plant.wiring.registry.history("a", 1)[0].envelope


FORGED: dict[str, tuple[str, Callable[[Plant], bytes]]] = {
    "signed by a stranger": ("statement-signature", _stranger),
    "signed by another device": ("statement-signature", lambda p: said(p, "b")),
    "changed": ("statement-signature", _changed),
    "a report": ("statement-malformed", _report),
    "not JSON": ("statement-malformed", lambda _: b"gone"),
    "cut short": ("statement-malformed", lambda p: honest(p)[:-40]),
    "too long": ("statement-malformed", lambda p: said(p, destroyed=["x" * 70_000])),
    "a word too many": ("statement-malformed", lambda p: said(p, more=1)),
    "no device": ("statement-malformed", lambda p: said(p, device=None)),
    "no time": ("statement-malformed", lambda p: said(p, time="soon")),
    "of another key": ("statement-malformed", lambda p: said(p, keyid="0" * 64)),
    "of another device": ("receipt-wrong-device", lambda p: said(p, "b", device="b")),
    "of a former state": ("receipt-state", lambda p: said(p, state_id="before")),
    "of an order nobody gave": ("receipt-order", lambda p: said(p, order="ota-x-u1-w0-b0")),
    "of a rollout nobody made": ("receipt-order", lambda p: said(p, rollout="evil-aaaaaa")),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_and_nothing_changes(plant: Plant, case: str) -> None:
    """By its own code, the device in service; the honest one counts afterwards, exactly once."""
    code, make = FORGED[case]
    before = rows(plant)
    with pytest.raises(OtaError) as caught:
        leave(plant, "a", make(plant))
    assert (caught.value.code, caught.value.exit_code) == (code, 3)
    assert caught.value.remedy
    assert rows(plant) == before
    leave(plant, "a", honest(plant))
    (end,) = plant.wiring.registry.retirements("a")
    assert end.receipt is not None
    assert (end.receipt.device, end.receipt.order) == ("a", body(plant)["order"])
    after = rows(plant)
    with pytest.raises(NotPermitted) as again:
        leave(plant, "a", honest(plant))
    assert again.value.code == "receipt-again"
    assert rows(plant) == after


def test_replayed_for_another_device(plant: Plant) -> None:
    """An honest receipt retires nobody but its own device."""
    before = rows(plant)
    with pytest.raises(OtaError) as caught:
        leave(plant, "b", honest(plant))
    assert caught.value.code == "receipt-wrong-device"
    assert rows(plant) == before


def test_of_a_device_that_lives(plant: Plant) -> None:
    """It reported after its last word: its key was copied, and the word is no proof of an end."""
    words = lying.last(plant["a"])
    words |= {"counter": words["counter"] + 1, "event": "inventory", "update": None}
    words |= {"steps": [], "time": "2999-01-01T00:00:00Z"}
    data = statement.sign("report", words, KEYS["a"])
    plant.wiring.registry.record(data, plant.now())
    before = rows(plant)
    with pytest.raises(OtaError) as caught:
        leave(plant, "a", honest(plant))
    assert caught.value.code == "receipt-outlived"
    assert rows(plant) == before


def test_of_a_device_with_a_copy(plant: Plant) -> None:
    """A copy of it with other state waits to be accepted: what ended was not all of it."""
    words = lying.last(plant["a"]) | {"state_id": "copied", "counter": 1}
    plant.wiring.registry.record(statement.sign("report", words, KEYS["a"]), plant.now())
    with pytest.raises(OtaError) as caught:
        leave(plant, "a", honest(plant))
    assert caught.value.code == "receipt-state"
    assert plant.wiring.registry.device("a").state == "restored"


def test_on_the_command_line(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """Tried dry, retired without, the receipt brought later: every listing tells which it is."""
    receipt = plant.folder / "receipt.json"

    def ota(*words: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = run(["-C", str(plant.workspace), *words, "-o", "json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    def listed() -> dict[str, str]:
        return {row["id"]: row["receipt"] for row in ota("fleet", "list")[1]}

    words = ("fleet", "retire", "a", "--receipt", str(receipt))
    code, _, err = ota(*words, "--dry-run")
    assert (code, err) == (
        0,
        "a: would be retired, with its verified receipt; nothing was written\n",
    )
    assert ota(*words)[0] == 4
    assert listed() == {"a": "", "b": ""}
    assert ota("fleet", "retire", "a", "--yes")[1]["retirement"]["receipt"] == "none"
    assert listed() == {"a": "none", "b": ""}
    code, found, _ = ota(*words, "--yes")
    assert (code, found["state"], found["retirement"]["receipt"]) == (0, "retired", "verified")
    assert found["retirement"]["signed"] == body(plant)["time"]
    assert found["retirement"]["destroyed"] == body(plant)["destroyed"]
    assert ota("fleet", "show", "a")[1]["retirements"] == [found["retirement"]]
    assert listed() == {"a": "verified", "b": ""}
    copy = plant.folder / "copy.json"
    for code in (0, 4):  # never over what is there
        assert ota("fleet", "show", "a", "--receipt", str(copy))[0] == code
        assert copy.read_bytes() == honest(plant)
    assert ota("fleet", "show", "b", "--receipt", str(copy))[0] == 2
    assert ota("fleet", "retire", "a", "--yes")[1]["retirement"] == found["retirement"]
    code, _, err = ota(*words, "--yes")
    assert (code, "code: receipt-again" in err) == (4, True)
    receipt.write_bytes(b"x" * 200_000)
    code, _, err = ota(*words, "--yes")
    assert (code, "is longer than 114688 bytes" in err) == (2, True)
    receipt.unlink()
    code, _, err = ota(*words, "--yes")
    assert (code, "there is no such receipt" in err) == (2, True)
    assert ota("fleet", "retire", "nobody", "--yes", "--dry-run")[0] == 2


def test_a_last_word_is_the_last(plant: Plant) -> None:
    """The key that signed it never joins again; the device may, with a key of its own."""
    enrolment = plant.folder / "again.json"
    leave(plant, "a", honest(plant))
    gateway = plant["a"]
    new = gateway.enrol()
    words = statement.peek("enrolment", new).body
    old = dict(words) | {"key": _public("a")}
    enrolment.write_bytes(statement.sign("enrolment", old, KEYS["a"]))
    before = rows(plant)
    with pytest.raises(NotPermitted) as caught:
        plant.wiring.registry.replace(enrolment.read_bytes())
    assert caught.value.code == "key-ended"
    assert rows(plant) == before
    plant.wiring.registry.replace(new)
    assert plant.wiring.registry.device("a").state == "active"
    with pytest.raises(OtaError) as replayed:
        leave(plant, "a", honest(plant))
    assert replayed.value.code == "statement-signature"
    leave(plant, "a", None)
    ends = plant.wiring.registry.retirements("a")
    assert [end.receipt is not None for end in ends] == [True, False]
    assert plant.wiring.registry.with_receipt() == frozenset()


def _public(device: str) -> dict[str, Any]:
    key = KEYS[device].public_key
    return {"keyid": key.keyid, **key.to_dict()}
