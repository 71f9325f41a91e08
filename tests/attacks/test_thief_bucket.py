"""Thief: the bucket. Whoever can read, write and delete every object of the store, and no key."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
from simulators.lies import DAMAGE
from simulators.plant import Plant
from simulators.thief import put
from simulators.threats import TWO, contents, files, honest, ordered, restore, sees, threat

from signing import layout, strict
from signing.layout import IMAGE as IMAGE_METADATA
from signing.layout import TARGETS

IMAGE = layout.image_target("app/app-2.0.0.bin", strict.digest(TWO))


# -- can -----------------------------------------------------------------------------------------
def test_it_can_read_everything(plant: Plant) -> None:
    """Images are signed, not encrypted; who gets what is written in the director's metadata."""
    ordered(plant)
    assert (plant.store / IMAGE).read_bytes() == TWO
    assert b"app/app-2.0.0.bin" in b"".join(contents(plant["a"].director("")).values())
    honest(plant)


@pytest.mark.parametrize("gone", ["director", IMAGE_METADATA, TARGETS])
def test_it_can_withhold(plant: Plant, gone: str) -> None:
    """Deleted is an outage, signed as such; what runs runs on, and comes back with the store."""
    ordered(plant)
    event = "progress" if gone == TARGETS else "outage"
    unseen = gone == IMAGE_METADATA
    with threat(plant, "missing", event=event, unseen=unseen, keeps=("director",) * unseen):
        shutil.rmtree(plant.store / gone)


def test_it_can_freeze_until_the_frozen_expires(plant: Plant) -> None:
    """What was true goes on being shown; then it is ``stale``, for all to see."""
    with threat(plant, "stale", event="stale") as gateway:
        assert (gateway.look(), gateway.codes) == ([], [])
        plant.later(days=31)


def test_it_can_replay_an_order_that_nobody_saw_withdrawn(plant: Plant) -> None:
    """Until the order's timestamp expires, three days as shipped; operators count who is exposed."""
    rollout = ordered(plant)
    live = shutil.copytree(plant.store, plant.folder / "live")
    plant.wiring.campaign.pause(rollout, plant.now())
    assert plant.status(rollout)["exposed"].keys() == {"a"}
    restore(plant.store, live)
    plant["a"].look()
    assert plant["a"].running == TWO, "signed for it, listed, and not yet expired"


# -- can not -------------------------------------------------------------------------------------
def _bytes(plant: Plant) -> None:
    put(plant.store / IMAGE, b"app evil!")


def _one_byte(what: str) -> Callable[[Plant], None]:
    def lie(plant: Plant) -> None:
        file = files(plant)[what]
        put(file, DAMAGE["version-flipped"](file.read_bytes()))

    return lie


def _theirs(plant: Plant) -> None:
    for _ in range(3):
        plant.wiring.desk.refresh("b", plant.now())
    for file in plant["b"].director("").iterdir():
        put(plant["a"].director(file.name), file.read_bytes())


def _root(plant: Plant) -> None:
    put(plant.store / "director/root/2.root.json", b'{"signatures": [], "signed": {}}')


def _yesterday(plant: Plant) -> None:
    put(plant["a"].director("timestamp.json"), (plant.folder / "yesterday").read_bytes())


WISHES: dict[str, tuple[str, Callable[[Plant], None]]] = {
    "make a device install other bytes": ("image-mismatch", _bytes),
    "change what is listed": ("metadata-mismatch", _one_byte("image app")),
    "change what is ordered": ("metadata-mismatch", _one_byte("director targets")),
    "give it another device's orders": ("metadata-rollback", _theirs),
    "name new keyholders": ("metadata-malformed", _root),
    "go back in versions": ("metadata-rollback", _yesterday),
}


@pytest.mark.parametrize("wish", WISHES)
def test_it_can_not(plant: Plant, wish: str) -> None:
    """Each wish is refused by name, nothing changes, and the honest store works again."""
    code, act = WISHES[wish]
    put(plant.folder / "yesterday", plant["a"].director("timestamp.json").read_bytes())
    ordered(plant)
    fresh = code == "metadata-mismatch"
    if not fresh:
        sees(plant["a"])
    keeps = ("director",) if wish == "change what is listed" else ()
    with threat(plant, code, unseen=fresh, keeps=keeps):
        act(plant)
