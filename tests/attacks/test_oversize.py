"""Oversize of every file: more bytes than were signed, or than anybody would need."""

from __future__ import annotations

import os
import sys

import pytest
from simulators.plant import Gateway, Plant, run
from simulators.thief import ImageThief, Thief, listed, only, put
from simulators.threats import FILES, TWO, before, files, news, ordered, threat
from tuf.api.metadata import MetaFile, Snapshot, Timestamp

from signing import layout, strict
from signing.client.workflow import Limits


@pytest.mark.parametrize("what", FILES)
def test_longer_than_allowed(plant: Plant, what: str) -> None:
    """The right file with a tail, or a new one that is nothing but long."""
    news(plant)
    with threat(plant, "oversize", unseen=True, keeps=before(what)):
        file = files(plant)[what]
        honest = file.read_bytes() if file.exists() else b"{}"
        put(file, honest + b" " * 600_000)


def test_an_image_longer_than_signed(plant: Plant) -> None:
    """Never a byte beyond the signed length is kept."""
    ordered(plant)
    with threat(plant, "image-oversize") as gateway:
        put(plant.store / layout.image_target("app/app-2.0.0.bin", strict.digest(TWO)), TWO * 2)
        gateway.look()
        assert not list((gateway.home / "state" / "downloads").glob("*.part"))


def test_metadata_that_a_thief_lists_as_huge(plant: Plant) -> None:
    """Whatever length the online key signs, there is an end to what a device reads."""
    with threat(plant, "oversize") as gateway:
        thief = Thief(plant)
        thief.publish("a")
        huge = listed(1000, b"")
        huge.length = 1 << 40
        with gateway.director("1000.snapshot.json").open("wb") as file:
            os.truncate(file.fileno(), (64 << 20) + 2)
        thief.stamp("a", only(Timestamp, lambda s: setattr(s, "snapshot_meta", huge)))


# -- memory ----------------------------------------------------------------------------------------
UNIT = 256
"""MiB that the agent's service may have (``MemoryMax``, README)."""
ONCE = """
import sys
from ota.agent.main import main
code = main(sys.argv[1:])
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(code, int(peak) // 1024)
"""


def peak(gateway: Gateway) -> tuple[int, int]:
    """Exit code of ``ota-agent once``, and the most MiB that it has ever held."""
    words = [sys.executable, "-c", ONCE, "once", "--config", str(gateway.toml)]
    *_, code, mib = run(words).stdout.split()
    return int(code), int(mib)


def swollen(snapshot: Snapshot, version: int) -> None:
    """As many names as a device reads."""
    names = (Limits().snapshot - 150_000) // 27
    snapshot.meta |= {f"{number:x}.json": MetaFile(version) for number in range(names)}


def test_no_thief_of_online_keys_gets_more_memory_than_the_unit_allows(plant: Plant) -> None:
    """Unsigned bytes at every limit, beside names without end that were believed before."""
    gateway, thief, online = plant["a"], Thief(plant), ImageThief(plant)
    thief.assign("a", thief.release("2.0.0"))
    online.publish(only(Snapshot, lambda s: swollen(s, 1)))
    gateway.look()
    assert gateway.running == TWO, "it was believed"
    thief.assign("a", thief.release("3.0.0"), order="ota-evil-aaaaaa-u1-w0-b1")
    bomb = b"[" + b"[]," * (Limits().targets // 3 - 2) + b"0]"
    put(online.folder / "99.targets.json", bomb)

    def bombed(snapshot: Snapshot) -> None:
        swollen(snapshot, 2)
        snapshot.meta["targets.json"] = listed(99, bomb)

    online.publish(only(Snapshot, bombed))
    code, mib = peak(gateway)
    assert (code, gateway.running) == (3, TWO)
    assert mib < UNIT


def test_a_director_reads_short(plant: Plant) -> None:
    """The files about one device are a few orders long, and its key lists no more."""
    with threat(plant, "oversize") as gateway:
        thief = Thief(plant)
        bomb = b"[" + b"[]," * 200_000 + b"0]"

        def bombed(snapshot: Snapshot) -> None:
            put(gateway.director("99.targets.json"), bomb)
            snapshot.meta["targets.json"] = listed(99, bomb)

        thief.publish("a", [], only(Snapshot, bombed))
