"""What the operator's side writes, the device's trust room reads: the two halves meet."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators.signed import HARDWARE, NOW, Signed, assignment

from ota.agent.time import EPOCH
from ota.agent.trust import TrustRoom
from ota.agent.verdict import Known
from ota.errors import Refusal, Stale
from signing import layout

DEVICE = "gw:1"


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    return Signed(tmp_path / "w").created()


@pytest.fixture
def room(place: Signed, tmp_path: Path) -> TrustRoom:
    room = TrustRoom(
        DEVICE,
        {"app": HARDWARE},
        tmp_path / "trust",
        lambda file, limit: place.store.get(layout.director_metadata(DEVICE, file), limit),
        lambda file, limit: place.store.get(layout.image_metadata(file), limit),
    )
    room.provision(place.repos.anchors("director")[1], place.repos.anchors("image")[1])
    return room


KNOWN = Known(committed={}, floors={}, denied={}, clock_floor=EPOCH)


def test_a_device_reads_what_was_assigned(place: Signed, room: TrustRoom) -> None:
    """Registered: nothing wanted. Assigned: exactly that. Withdrawn: nothing again."""
    release = place.released("1.0.0")
    place.desk.register(DEVICE, NOW)
    assert room.cycle(KNOWN, NOW).wanted == ()
    approved = place.authorised(place.plan(release, None, DEVICE))
    place.desk.assign(approved, DEVICE, assignment(release, least_image_snapshot=2), NOW)
    wanted = room.cycle(KNOWN, NOW).wanted
    assert [(w.release, w.assignment.order) for w in wanted] == [
        (release, assignment(release).order)
    ]
    assert room.verify(wanted[0], place.folder / "app-1.0.0.bin").release == release
    assert room.still_assigned(wanted[0], KNOWN, NOW)
    place.desk.withdraw(DEVICE, {assignment(release).order}, NOW)
    assert not room.still_assigned(wanted[0], KNOWN, NOW)
    assert room.cycle(KNOWN, NOW).wanted == ()


def test_a_device_follows_every_kind_of_edit(place: Signed, room: TrustRoom) -> None:
    """New components, new releases, refreshes of both sides: each cycle is a good one."""
    place.desk.register(DEVICE, NOW)
    room.cycle(KNOWN, NOW)
    first = place.released("1.0.0")
    place.released("7", component="mcu")
    second = place.released("2.0.0", security_fix=True)
    approved = place.authorised(place.plan(second, first, DEVICE))
    place.desk.assign(approved, DEVICE, assignment(second, least_image_snapshot=4), NOW)
    assert room.cycle(KNOWN, NOW).wanted[0].release.release_counter == 2
    later = NOW + timedelta(days=2)
    place.repos.refresh(later)
    place.desk.refresh(DEVICE, later)
    assert room.cycle(KNOWN, later).wanted[0].release == second
    with pytest.raises(Stale):
        room.cycle(KNOWN, later + timedelta(days=4))


def test_the_metadata_of_another_device_is_refused(place: Signed, room: TrustRoom) -> None:
    """What the desk signs for one device does not serve another one; the device recovers."""
    place.desk.register(DEVICE, NOW)
    place.desk.register("gw-2", NOW)
    room.cycle(KNOWN, NOW)
    mine = place.folder / "store" / layout.director_metadata(DEVICE, "timestamp.json")
    before = mine.read_bytes()
    place.desk.refresh("gw-2", NOW)
    theirs = place.folder / "store" / layout.director_metadata("gw-2", "timestamp.json")
    mine.write_bytes(theirs.read_bytes())
    with pytest.raises(Refusal) as caught:
        room.cycle(KNOWN, NOW)
    assert caught.value.code == "director-wrong-device"
    mine.write_bytes(before)
    assert room.cycle(KNOWN, NOW).wanted == ()
