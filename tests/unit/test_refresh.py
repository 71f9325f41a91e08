"""Refreshing: only what is due, each problem by itself, and monitoring that can not be fooled."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from simulators.signed import NOW, Signed, assignment

from ota.errors import NotFound, Outage
from ota.repositories import expiry, refreshing
from ota.repositories.refreshing import Refreshed
from signing import layout

DEVICES = ("gw-1", "gw-2")


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    place = Signed(tmp_path).created()
    release = place.released("1.0.0")
    for device in DEVICES:
        place.desk.register(device, NOW)
    plan = place.authorised(place.plan(release, None, "gw-1"))
    place.desk.assign(plan, "gw-1", assignment(release, least_image_snapshot=2), NOW)
    return place


def refresh(place: Signed, now: datetime, **more: object) -> Refreshed:
    return refreshing.refresh(place.repos, place.desk, place.policy, now, **more)  # type: ignore[arg-type]  # a test's shorthand


def stored(place: Signed) -> dict[str, bytes]:
    return {n: place.store.get(n, 1 << 26) or b"" for n in place.store.list("")}


def test_nothing_is_due_at_once(place: Signed) -> None:
    """A second run right after changes no byte."""
    before = stored(place)
    assert refresh(place, NOW + timedelta(minutes=5)) == Refreshed(False, (), {})
    assert stored(place) == before


@pytest.mark.parametrize(
    ("days", "image", "devices", "snapshot"),
    [
        (1.4, False, (), 2),
        (1.6, True, ("gw-1",), 2),
        (16, True, DEVICES, 2),
        (19, True, DEVICES, 2),
        (21, True, DEVICES, 3),
        (45, True, DEVICES, 3),
    ],
)
def test_what_is_due_is_signed(
    place: Signed, days: float, image: bool, devices: tuple[str, ...], snapshot: int
) -> None:
    """Timestamps past half of their life, the snapshot past two thirds of its own.

    A second run finds nothing to do.
    """
    now = NOW + timedelta(days=days)
    assert refresh(place, now) == Refreshed(image, devices, {})
    state = place.repos.image().state(now)
    assert state is not None
    assert state.client.snapshot.version == snapshot
    before = stored(place)
    assert refresh(place, now) == Refreshed(False, (), {})
    assert stored(place) == before
    lives = {d: place.desk.state(d).expires - now for d in devices}
    assert lives.get("gw-1", timedelta(days=3)) in {timedelta(days=3), timedelta(days=30)}
    assert lives.get("gw-2", timedelta(days=30)) == timedelta(days=30)


def test_retired_devices_are_left_to_expire(place: Signed) -> None:
    """Only their timestamps: nobody follows them any more."""
    now = NOW + timedelta(days=20)
    assert refresh(place, now, retired={"gw-2"}).devices == ("gw-1",)


def test_one_problem_does_not_stop_the_others(place: Signed) -> None:
    """A damaged image repository and a damaged device are named; the other device goes on."""
    for name in (
        layout.image_metadata("timestamp.json"),
        layout.director_metadata("gw-1", "timestamp.json"),
    ):
        place.store.swap(name, b"{}", place.store.get(name, 1 << 20))
    done = refresh(place, NOW + timedelta(days=20))
    assert (done.image, done.devices) == (False, ("gw-2",))
    assert {n: e.code for n, e in done.problems.items()} == {
        "image": "metadata-malformed",
        "gw-1": "metadata-malformed",
    }


def test_a_killed_refresh_goes_on(place: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at each swap in turn: the next run signs what is left, and only that."""
    now = NOW + timedelta(days=20)
    swap = place.store.swap

    def killed(name: str, data: bytes, expected: bytes | None) -> None:
        if "gw-2" in name:
            raise Outage("killed")
        swap(name, data, expected)

    monkeypatch.setattr(place.store, "swap", killed)
    assert set(refresh(place, now).problems) == {"gw-2"}
    monkeypatch.setattr(place.store, "swap", swap)
    assert place.repos.publisher.waiting() == ["director/gw-2"]
    done = refresh(place, now)
    assert (done.image, done.problems) == (False, {})
    assert place.repos.publisher.waiting() == []
    assert place.desk.state("gw-2").expires == now + timedelta(days=30)


def test_an_online_key_whose_public_half_is_gone_is_named(place: Signed) -> None:
    """The image repository is not signed by anything else; devices are refreshed all the same."""
    now, before = NOW + timedelta(days=20), stored(place)
    (place.folder / "repo-metadata" / "keyholders" / "image-online.json").unlink()
    done = refresh(place, now)
    assert done.problems["image"].code == "online-key"
    assert (done.image, done.devices) == (False, DEVICES)
    after = stored(place)
    assert all(after[n] == d for n, d in before.items() if n.startswith(f"{layout.IMAGE}/"))


def test_before_the_first_publish_there_is_nothing_to_refresh(tmp_path: Path) -> None:
    """Said, and nothing is made."""
    place = Signed(tmp_path)
    with pytest.raises(NotFound):
        refreshing.refresh(place.repos, None, place.policy, NOW)  # type: ignore[arg-type]  # never reached


# -- monitoring ------------------------------------------------------------------------------------
def ending(place: Signed, days: float, within: int = 30, **more: object) -> list[tuple[str, str]]:
    now = NOW + timedelta(days=days)
    found = expiry.expiring(place.repos, now, timedelta(days=within), **more)  # type: ignore[arg-type]  # the same
    return [(e.repository, e.name) for e in found]


def test_a_refreshed_fleet_is_quiet(place: Signed) -> None:
    """Timestamps of three days do not cry within thirty, as long as the timer runs."""
    assert ending(place, 0) == []
    assert ending(place, 1.6) == []


def test_a_timer_that_stopped_is_named(place: Signed) -> None:
    """In the last quarter of a life that a timer should have renewed."""
    assert ending(place, 2.5) == [("image", "timestamp"), ("director", "gw-1")]
    assert ending(place, 24) == [
        ("image", "snapshot"),
        ("image", "timestamp"),
        ("director", "gw-1"),
        ("director", "gw-2"),
    ]
    assert ("director", "gw-2") not in ending(place, 24, retired={"gw-2"})


def test_roles_that_people_sign_are_named_in_time(place: Signed) -> None:
    """Thirty days before their end, and not a day earlier."""
    refresh(place, NOW + timedelta(days=149))
    assert ending(place, 149) == []
    assert ending(place, 151) == [("image", "targets"), ("image", "app")]
    assert ("director", "root") in ending(place, 340)


def test_unreadable_metadata_is_named_too(place: Signed) -> None:
    """A device whose metadata was spoilt is a finding, not a crash."""
    name = layout.director_metadata("gw-2", "timestamp.json")
    place.store.swap(name, b"{}", place.store.get(name, 1 << 20))
    found = expiry.expiring(place.repos, NOW, timedelta(days=1))
    assert [(e.name, e.expires, e.why[:18]) for e in found] == [
        ("gw-2", None, "metadata-malformed")
    ]
