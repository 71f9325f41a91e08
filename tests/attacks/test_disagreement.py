"""Director and image repository disagreeing: in length, any hash, counter or path."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief
from simulators.threats import take_off, threat
from tuf.api.metadata import TargetFile

SHA512 = "0" * 128
KEEPS = ("director", "image")


def _renamed(target: TargetFile) -> None:
    target.hashes["sha512"] = target.hashes.pop("sha256")


def _path(target: TargetFile) -> None:
    target.path = "app/evil.bin"


LIES: dict[str, tuple[str, Callable[[TargetFile], object]]] = {
    "shorter": ("target-mismatch", lambda t: setattr(t, "length", t.length - 1)),
    "longer": ("target-mismatch", lambda t: setattr(t, "length", 1 << 40)),
    "another hash": ("target-mismatch", lambda t: t.hashes.update(sha256="0" * 64)),
    "one hash more": ("target-mismatch", lambda t: t.hashes.update(sha512=SHA512)),
    "an unknown hash more": ("target-mismatch", lambda t: t.hashes.update(crc32="0")),
    "no hash": ("metadata-malformed", lambda t: t.hashes.clear()),
    "not the hash that names it": ("assignment-malformed", _renamed),
    "a path that is not listed": ("not-listed", _path),
}


@pytest.mark.parametrize("lie", LIES)
def test_about_the_bytes(plant: Plant, lie: str) -> None:
    """What is ordered is what is listed, to the last hash, or it is not installed."""
    code, change = LIES[lie]
    with threat(plant, code, keeps=() if code.endswith("malformed") else KEEPS):
        thief = Thief(plant)
        target = thief.target()
        change(target)
        thief.publish("a", [target])


def test_about_the_counter(plant: Plant) -> None:
    """The director repeats the counter that was signed offline; it does not choose one."""
    with threat(plant, "counter-mismatch", keeps=KEEPS) as gateway:
        thief = Thief(plant)
        for counter in (0, 2, 2**31 - 1):
            thief.publish("a", [thief.target(release_counter=counter)])
            gateway.look()
            assert gateway.told()[-1] == "counter-mismatch", counter


def test_about_what_a_counter_is(plant: Plant) -> None:
    """A counter that is no number in range makes the order none."""
    with threat(plant, "assignment-malformed") as gateway:
        thief = Thief(plant)
        for counter in (-1, 2**31, "1", None, True):
            thief.publish("a", [thief.target(release_counter=counter)])
            gateway.look()
            assert gateway.codes[-1] == "assignment-malformed", counter


def test_about_a_hash_that_nobody_computes(plant: Plant) -> None:
    """Both repositories agree on a hash that is not of the file: the bytes are refused."""
    engineers = ImageThief(plant, "targets-1", "targets-2")
    with threat(plant, "image-mismatch", keeps=KEEPS):
        role = engineers.lists("app/odd.bin", b"odd")
        role.targets["app/odd.bin"].hashes["sha512"] = SHA512
        listed = role.targets["app/odd.bin"]
        words = {"path": listed.path, "length": listed.length, "hashes": dict(listed.hashes)}
        thief = Thief(plant)
        thief.assign("a", thief.release("2.0.0"), **words)
        engineers.publish(roles={"app": role})
    take_off(plant, "app/odd.bin")
