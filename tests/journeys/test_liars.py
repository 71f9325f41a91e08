"""Every metadata file that a device fetches, damaged in every way in turn; and clocks that lie.

Whatever the store serves, the device goes on running what it runs, forgets nothing, learns
nothing, says a named code, and installs as soon as the store is honest again.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators.lies import DAMAGE, damaged, memory
from simulators.plant import Plant
from simulators.plants import fixtures

from signing.refusals import REFUSALS

ONE, TWO = b"app 1.0.0", b"app 2.0.0"
ROLES = (
    *(("director", role) for role in ("timestamp", "snapshot", "targets")),
    *(("image", role) for role in ("timestamp", "snapshot", "targets", "app")),
)


def made(folder: Path) -> Plant:
    """``a`` runs 1.0.0 and is about to fetch new versions of every file of both repositories."""
    plant = Plant(folder, ["a", "b"])
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.publish(plant.build("2.0.0"), plant.build("1.0.0", component="mcu"))
    plant.join(["new"])
    plant.step(plant.start("two", "2.0.0"))
    return plant


frozen, plant = fixtures(made)


def newest(plant: Plant, repository: str, role: str) -> Path:
    """The file of a role that a device would fetch now."""
    folder = plant["a"].director("") if repository == "director" else image(plant)
    found = folder.glob(f"{role}.json" if role == "timestamp" else f"*.{role}.json")
    return max(found, key=lambda p: (len(p.name), p.name))


def image(plant: Plant) -> Path:
    return plant.store / "image" / "metadata"


def refuses(plant: Plant, repository: str, what: str) -> str:
    """Looks once: refused by name, and nothing on the device has moved."""
    gateway = plant["a"]
    known = memory(gateway, repository)
    gateway.codes.clear()
    assert gateway.look() == [], what
    assert gateway.running == ONE, what
    assert memory(gateway, repository) == known, what
    assert not list(gateway.home.glob("app.*")), what
    code = gateway.told()[-1]
    assert gateway.codes in ([code], []), what  # a component alone is held without an error
    return code


def honest(plant: Plant) -> None:
    """The store tells the truth again: the update that was kept away is installed."""
    plant.look()
    assert plant["a"].running == TWO
    assert plant["a"].sound()


@pytest.mark.parametrize(("repository", "role"), ROLES, ids=["-".join(r) for r in ROLES])
def test_every_file_damaged_in_every_way(plant: Plant, repository: str, role: str) -> None:
    """Flipped, cut, emptied, swollen or nonsense: refused with a code, and it heals."""
    file = newest(plant, repository, role)
    for name, damage in DAMAGE.items():
        with damaged(file, damage):
            code = refuses(plant, repository, f"{file.name} {name}")
        assert code in REFUSALS, name
        if role != "timestamp":
            assert code in {"metadata-mismatch", "oversize"}, name
    honest(plant)


@pytest.mark.parametrize(("repository", "role"), ROLES, ids=["-".join(r) for r in ROLES])
def test_every_file_replaced_by_another(plant: Plant, repository: str, role: str) -> None:
    """Another role's file, another repository's, or an older one of its own under its name."""
    file = newest(plant, repository, role)
    others = [newest(plant, *other) for other in ROLES if other != (repository, role)]
    older = [p for p in file.parent.glob(f"*.{role}.json") if p != file]
    seen = set()
    for other in [*others, *older, image(plant) / "1.root.json"]:
        with damaged(file, lambda _data, other=other: other.read_bytes()):
            seen.add(refuses(plant, repository, f"{other} as {file.name}"))
    expected = {"signature"} if role == "timestamp" else {"metadata-mismatch"}
    assert expected <= seen <= {*expected, "oversize", "metadata-malformed"}
    honest(plant)


@pytest.mark.parametrize(("repository", "role"), ROLES, ids=["-".join(r) for r in ROLES])
def test_every_file_missing(plant: Plant, repository: str, role: str) -> None:
    """A file that is not there is an outage, never "nothing to do" and never an accusation."""
    file = newest(plant, repository, role)
    hidden = file.rename(file.with_name(f"hidden-{file.name}"))
    code = refuses(plant, repository, f"no {file.name}")
    assert code not in REFUSALS
    hidden.rename(file)
    honest(plant)


def test_a_device_that_knows_nothing_but_its_roots(plant: Plant) -> None:
    """The first look of all: every file damaged in turn, nothing is believed or installed."""
    new = plant["new"]
    known = memory(new, "director"), memory(new, "image")
    for repository, role in ROLES:
        for name in ("version-flipped", "truncated", "emptied"):
            file = newest(plant, repository, role)
            if repository == "director":
                file = new.director(max(p.name for p in new.director("").glob(f"*{role}.json")))
            with damaged(file, DAMAGE[name]):
                new.look()
            assert new.running is None, (file, name)
            assert new.told()[-1] in REFUSALS, (file, name)
            assert memory(new, "image") == known[1]
        if (repository, role) == ROLES[2]:
            assert memory(new, "director") == known[0]
    new.look()
    assert new.running == TWO


@pytest.mark.parametrize("repository", ["director", "image"])
def test_a_next_root_that_is_none(plant: Plant, repository: str) -> None:
    """Anybody can put a ``2.root.json`` into a store; only the old root's keys make it one."""
    folder = plant.store / "director" / "root" if repository == "director" else image(plant)
    first = (folder / "1.root.json").read_bytes()
    false = folder / "2.root.json"
    lies = {
        "the first again": first,
        "the other repository's": newest(plant, "image", "targets").read_bytes(),
        "a version that nobody signed": DAMAGE["version-flipped"](first),
        "nothing": b"",
        "nonsense": b"[" * 1000,
    }
    for what, data in lies.items():
        false.write_bytes(data)
        assert refuses(plant, repository, what) in REFUSALS
        false.unlink()
    honest(plant)


# -- clocks ------------------------------------------------------------------------------------
def test_clock_ten_years_ahead_for_one_cycle(plant: Plant) -> None:
    """Ahead: everything looks expired, ``stale`` is signed, what runs runs on; then it heals."""
    gateway = plant["a"]
    gateway.skew = timedelta(days=3653)
    gateway.look()
    assert (gateway.running, gateway.codes) == (ONE, ["stale"])
    gateway.skew = timedelta(0)
    honest(plant)
    assert plant.drive(plant.wiring.open_rollouts()[0])["state"] == "COMPLETED"
    assert plant.damage() == []


def test_clock_ten_years_behind(plant: Plant) -> None:
    """Behind: the floor that signed metadata raised is used, so work goes on, and reports count."""
    gateway = plant["a"]
    gateway.skew = -timedelta(days=3653)
    honest(plant)
    assert min(r.time for r in gateway.reports()) > "2025"
    gateway.skew = timedelta(0)
    gateway.look()
    assert plant.drive(plant.wiring.open_rollouts()[0])["state"] == "COMPLETED"


def test_clock_of_a_real_process(plant: Plant) -> None:
    """``ota-agent once`` under a false clock in both directions, then under a true one."""
    gateway = plant["a"]
    ahead = gateway.process("once", prefix=["faketime", "-f", "+3653d"])
    assert (ahead.returncode, gateway.running) == (1, ONE), ahead.stderr
    assert "stale" in ahead.stderr
    behind = gateway.process("once", prefix=["faketime", "-f", "-3653d"])
    assert behind.returncode == 0, behind.stderr
    assert gateway.running == TWO
    assert gateway.process("verify").returncode == 0
    assert gateway.process("once").returncode == 0
