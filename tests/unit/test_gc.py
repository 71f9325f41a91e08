"""What is removed from a store, and everything that stays because somebody is still led to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from simulators.rotation import APP, BOTH, DEVICES, FAR, KNOWN, Stage, fixtures
from simulators.signed import NOW

from ota.agent.trust import TrustRoom
from ota.errors import Busy, Malformed, NotFound, OtaError, Outage, Refusal
from ota.repositories import gc, repostatus, rotating
from ota.repositories.gc import Survey
from ota.repositories.release import Releases
from signing import bins, layout

GRACE = timedelta(days=30)
LATER = NOW + timedelta(days=31)


def published(stage: Stage) -> None:
    """Four bins; 1.0.0 is assigned; more were published one by one, 1.0.4 was taken off before."""
    stage.append("image.toml", "\n[components.app]\nbins = 4\n")
    stage.change(*BOTH)
    for number in range(1, 5):
        stage.place.released(f"1.0.{number}")
    yank(stage, "app/app-1.0.4.bin")
    stage.place.released("1.0.5")


template, stage = fixtures(published)


def yank(stage: Stage, path: str, now: datetime = NOW) -> None:
    Releases(stage.place.repos).yank(path, now)
    stage.sign(*BOTH, now=now)
    stage.place.repos.publish(now)


def collect(stage: Stage, now: datetime = LATER, *opened: str) -> Survey:
    return gc.collect(stage.place.repos, lambda: opened, now, GRACE)


def twice(stage: Stage, *opened: str) -> Survey:
    """Noted now, removed after the grace time."""
    first = collect(stage, NOW, *opened)
    assert first.due == ()
    return collect(stage, LATER, *opened)


def names(stage: Stage) -> set[str]:
    return set(stage.store.list(""))


def images(stage: Stage) -> set[str]:
    return {name.partition(".")[2] for name in names(stage) if name.startswith(layout.TARGETS)}


def versions(stage: Stage, role: str) -> set[int]:
    end = f".{role}.json"
    found = (n.rpartition("/")[2] for n in names(stage) if n.startswith(layout.IMAGE))
    return {int(n.removesuffix(end)) for n in found if n.endswith(end)}


def arrive(stage: Stage, now: datetime = NOW) -> None:
    """Every device finds its release, and every byte that is listed is there."""
    assert [stage.wanted(device, now) for device in DEVICES] == [APP] * 3
    assert [f for f in repostatus.verify(stage.place.repos, None, now) if not f.ok] == []


# -- what goes -----------------------------------------------------------------------------------
def test_the_first_run_notes_and_a_later_one_removes(stage: Stage) -> None:
    """After the grace time, not before; a third run finds nothing more to do."""
    before = names(stage)
    first = collect(stage, NOW)
    assert first.due == ()
    assert first.tallies["images"].waiting == 1
    assert first.next_due == NOW + GRACE
    assert collect(stage, NOW + GRACE - timedelta(seconds=1)).due == ()
    assert names(stage) == before
    done = collect(stage, NOW + GRACE)
    assert before - names(stage) == set(done.due) != set()
    assert done.tallies["images"].due == 1
    assert done.tallies["images"].bytes == len(b"app 1.0.4\n" * 20)
    assert "app-1.0.4.bin" not in images(stage)
    again = collect(stage, LATER)
    assert (again.due, again.next_due) == ((), None)
    arrive(stage)


def test_the_set_before_the_newest_stays_whole(stage: Stage) -> None:
    """Of each role its current version and the one that the snapshot before lists; roots always."""
    state = stage.place.repos.image().state(NOW)
    assert state is not None
    twice(stage)
    newest = state.client.snapshot.version
    powers = {v for v in range(1, newest) if v.bit_count() == 1}
    assert versions(stage, "snapshot") == {newest, newest - 1} | powers
    assert versions(stage, "root") == {1}
    kept = {name: versions(stage, name) for name, _ in state.parts("app") if name != "app"}
    assert all(state.version(name) in found for name, found in kept.items())
    assert sorted(len(found) for found in kept.values()) == [1, 1, 1, 2]  # one was edited last
    arrive(stage)


def test_a_reader_in_the_middle_of_its_cycle_is_not_cut_off(stage: Stage) -> None:
    """It has read the timestamp when a release is published and all that is past is removed."""
    collect(stage, NOW)

    def meanwhile() -> None:
        stage.place.released("2.0.0")
        done = collect(stage, LATER)
        assert done.due

    room = interrupted(stage, meanwhile)
    assert [w.release.path for w in room.cycle(KNOWN, NOW).wanted] == APP
    arrive(stage)


def interrupted(stage: Stage, meanwhile: Callable[[], None]) -> TrustRoom:
    """A device to whom something happens right after it has read the image timestamp."""
    work = [meanwhile]
    read = stage.store.get

    def fetch(file: str, limit: int) -> bytes | None:
        data = read(layout.image_metadata(file), limit)
        if file == "timestamp.json" and work:
            work.pop()()
        return data

    room = TrustRoom(
        "gw-1",
        {"app": "gw-rev-b"},
        stage.folder / "reader",
        lambda file, limit: read(layout.director_metadata("gw-1", file), limit),
        fetch,
    )
    anchors = stage.place.repos.anchors
    room.provision(anchors("director")[1], anchors("image")[1])
    return room


def test_bins_of_old_layouts_go_and_a_device_that_slept_arrives(stage: Stage) -> None:
    """Names stay in the snapshot; their files are nobody's any more."""
    assert stage.wanted("gw-1") == APP
    stage.edit("image.toml", "[components.app]\nbins = 4", "[components.app]\nbins = 1")
    stage.change(*BOTH)
    stage.place.released("2.0.0")
    twice(stage)
    assert all(versions(stage, f"app.-{n}") == set() for n in range(4))
    arrive(stage)
    stage.edit("image.toml", "[components.app]\nbins = 1", "[components.app]\nbins = 4")
    stage.change(*BOTH)
    arrive(stage)


def test_past_metadata_of_devices_goes(stage: Stage) -> None:
    """Of each device the current and the last; what the director withdrew is not listed again."""
    for _ in range(5):
        stage.place.desk.withdraw("gw-1", {stage.order.order}, NOW)
        stage.assign("gw-1")
    twice(stage)
    folder = layout.director_metadata("gw-1", "")
    mine = {n.removeprefix(folder) for n in names(stage) if n.startswith(folder)}
    found = sorted(int(n.partition(".")[0]) for n in mine if n.endswith("targets.json"))
    assert found == [1, 2, 4, 8, 11, 12]
    arrive(stage)


# -- what stays ----------------------------------------------------------------------------------
def test_what_a_director_names_stays(stage: Stage) -> None:
    """Listed or not: its image is there until no director names it."""
    yank(stage, APP[0])
    for number in range(3):
        stage.place.released(f"3.0.{number}")
    twice(stage)
    assert "app-1.0.0.bin" in images(stage)
    for _ in range(2):
        for device in DEVICES:
            stage.place.desk.withdraw(device, {stage.order.order}, LATER)
            stage.place.desk.refresh(device, LATER)
    collect(stage, LATER)
    for device in DEVICES:  # the set before the newest named it; one more, and none does
        stage.place.desk.bump(device, 1, stage.rooms[device].versions()[0], LATER)
    collect(stage, LATER)
    collect(stage, LATER + GRACE)
    assert "app-1.0.0.bin" not in images(stage)


def test_what_an_open_rollout_names_stays(stage: Stage) -> None:
    """As what it sends, or as its way back: both come as paths."""
    twice(stage, "app/app-1.0.4.bin")
    assert "app-1.0.4.bin" in images(stage)
    collect(stage, LATER)
    assert collect(stage, LATER + GRACE).tallies["images"].due == 1


def test_what_waits_stays(stage: Stage) -> None:
    """A change that lists a release again needs its image, which lies there already."""
    collect(stage, NOW)
    stage.place.releases.add(stage.place.build("1.0.4"), NOW)
    done = collect(stage, LATER)
    assert "app-1.0.4.bin" in images(stage)
    assert done.tallies["images"].due == 0
    (stage.place.folder / "app-1.0.4.bin").unlink()
    stage.sign(*BOTH, now=LATER)
    stage.place.repos.publish(LATER)
    assert {r.version for r in stage.place.repos.image().state(LATER).releases().values()} >= {  # type: ignore[union-attr]
        "1.0.4"
    }


def test_an_unfinished_publish_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the timestamp: its files and images wait for it, however long."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    stage.place.signed()

    def dies(*_args: object) -> None:
        raise Outage("the store died")

    monkeypatch.setattr(stage.store, "swap", dies)
    with pytest.raises(Outage):
        stage.place.releases.publish(NOW)
    monkeypatch.undo()
    stage.place.repos.pending_path("image").unlink()
    waits = stage.place.repos.publisher.names() & names(stage)
    assert len(waits) == 4
    collect(stage, NOW)
    assert collect(stage, LATER).due != ()
    assert waits <= names(stage)
    (stage.place.folder / "app-2.0.0.bin").unlink()
    assert stage.place.repos.publisher.resume("image") == ["image"]
    arrive(stage)


def test_what_is_needed_again_is_forgotten(stage: Stage) -> None:
    """Its time begins anew when it is taken off once more."""
    collect(stage, NOW)
    half = NOW + timedelta(days=15)
    stage.place.released("1.0.4", half)
    collect(stage, half)
    yank(stage, "app/app-1.0.4.bin", half)
    stage.place.released("1.0.6", half)
    collect(stage, half)
    collect(stage, LATER)
    assert "app-1.0.4.bin" in images(stage)
    collect(stage, half + GRACE)
    assert "app-1.0.4.bin" not in images(stage)


def test_a_number_above_what_is_listed_stays_taken(stage: Stage) -> None:
    """A publisher that lost its race left a signed file: its number is nobody else's, for ever."""
    left = layout.image_metadata("99.app.-1.json")
    stage.store.put(left, b"signed, and never listed")
    unknown = ("image/other.txt", "other/thing", layout.image_metadata("odd.json"))
    for name in unknown:
        stage.store.put(name, b"not ours")
    twice(stage)
    assert {left, *unknown} <= names(stage)


def test_a_device_that_can_not_be_read_keeps_everything(stage: Stage) -> None:
    """It is named, and the others are cleaned up all the same."""
    stage.place.desk.withdraw("gw-1", {stage.order.order}, NOW)
    for _ in range(4):
        stage.place.desk.withdraw("gw-2", {stage.order.order}, NOW)
        stage.assign("gw-2")
    timestamp = stage.store._root / layout.director_metadata("gw-1", "timestamp.json")
    timestamp.write_bytes(timestamp.read_bytes().replace(b'"version":3', b'"version":9'))
    folder = layout.director_metadata("gw-1", "")
    before = {n for n in names(stage) if n.startswith(folder)}
    done = twice(stage)
    assert set(done.problems) == {"gw-1"}
    assert isinstance(done.problems["gw-1"], Refusal)
    assert {n for n in names(stage) if n.startswith(folder)} == before
    assert any(n.startswith(layout.director_metadata("gw-2", "")) for n in done.due)


# -- trouble -------------------------------------------------------------------------------------
def test_a_tampered_repository_is_not_cleaned_up(stage: Stage) -> None:
    """Nobody can say what is needed: nothing is removed."""
    collect(stage, NOW)
    for path in (stage.store._root / layout.IMAGE).glob("*.app.-*.json"):
        path.write_bytes(path.read_bytes().replace(b'"release"', b'"releasf"', 1))
    shutil.rmtree(stage.place.folder / "state" / "seen")
    stage.place.reload()
    before = names(stage)
    with pytest.raises(Refusal):
        collect(stage, LATER)
    assert names(stage) == before


def test_a_component_that_devices_refuse_is_not_cleaned_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bins are nobody's until its keyholders mend it, and everybody's then."""
    collect(stage, NOW)

    def refuse(name: str, *_roles: object) -> None:
        raise Refusal("bin-keyholders", f"{name} hands its releases on")

    monkeypatch.setattr(bins, "refuse_others", refuse)
    stage.place.reload()
    before = names(stage)
    with pytest.raises(Refusal) as caught:
        collect(stage, LATER)
    assert caught.value.code == "bin-keyholders"
    assert names(stage) == before


def test_a_publish_meanwhile_ends_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was looked at is not what is there: the rest stays, and the next run goes on."""
    collect(stage, NOW)
    other = stage.copied(stage.folder.parent / "other")
    other.place.store = other.store = type(stage.store)(stage.store._root)
    other.place.reload()
    remove = stage.store.remove
    removed: list[str] = []

    def publish(name: str) -> None:
        remove(name)
        removed.append(name)
        if len(removed) == 2:
            other.place.released("5.0.0")

    monkeypatch.setattr(stage.store, "remove", publish)
    with pytest.raises(Busy) as caught:
        collect(stage, LATER)
    assert (caught.value.code, len(removed)) == ("lost-race", 2)
    monkeypatch.undo()
    assert len(collect(stage, LATER).due) > 2
    arrive(stage)


def test_killed_at_any_removal_the_next_run_goes_on(stage: Stage, tmp_path: Path) -> None:
    """Before it or after it: at every moment everything listed is there, and the end is the same."""
    collect(stage, NOW)
    honest = stage.copied(tmp_path / "honest")
    due = collect(honest, LATER).due
    end = names(honest)
    for at in range(0, len(due), 3):
        victim = stage.copied(tmp_path / f"victim-{at}")
        remove, left = victim.store.remove, [at]

        def dies(name: str, remove: Callable[[str], None] = remove, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise Outage("the store died")
            remove(name)

        victim.store.remove = dies  # type: ignore[method-assign]
        with pytest.raises(Outage):
            collect(victim, LATER)
        del victim.store.remove
        arrive(victim)
        assert collect(victim, LATER).due == due[at:]
        assert names(victim) == end


def test_metadata_go_before_the_images_that_they_name(stage: Stage) -> None:
    """So nothing ever names what is not there."""
    collect(stage, NOW)
    due = gc.survey(stage.place.repos, list, LATER, GRACE).due
    kinds = [gc.kind_of(name) for name in due]
    assert kinds[-1] == "images"
    assert kinds == sorted(kinds, key=lambda kind: kind == "images")


def test_an_image_that_went_meanwhile_is_uploaded_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine collects it between upload and timestamp: the publisher looks once more."""
    swap = stage.store.swap
    image = layout.image_target(*signed(stage, "app/app-1.0.4.bin"))

    def raced(name: str, data: bytes, expected: bytes | None) -> None:
        stage.store.remove(image)
        swap(name, data, expected)

    stage.place.releases.add(stage.place.build("1.0.4"), NOW)
    stage.place.signed()
    monkeypatch.setattr(stage.store, "swap", raced)
    stage.place.releases.publish(NOW)
    monkeypatch.undo()
    arrive(stage)


def signed(stage: Stage, path: str) -> tuple[str, str]:
    file = path.partition("/")[2]
    (name,) = (n for n in names(stage) if n.startswith(layout.TARGETS) and n.endswith(file))
    return path, name.rpartition("/")[2].partition(".")[0]


def test_after_a_theft_versions_go_on_above_what_was_counted(stage: Stage) -> None:
    """The thief wound forward, most versions were removed long ago: none is counted twice."""
    for _ in range(9):
        stage.place.repos.change(NOW, "image", [("image", "app")])
        stage.sign(*BOTH)
        stage.place.repos.publish(NOW)
    state = stage.place.repos.image().state(NOW)
    assert state is not None
    before = state.client.snapshot.version
    twice(stage)
    stage.wind(layout.image_metadata, stage.place.keys["image-online"])
    stage.edit("image.toml", '"image-online"', '"image-new"')
    stage.place.repos.change(NOW, "image", salvage=True)
    stage.sign("root-1", "root-3")
    rotating.recover(stage.place.repos, "image", NOW)
    state = stage.place.repos.image().state(NOW)
    assert state is not None
    assert before < state.client.snapshot.version < FAR
    assert stage.wanted("gw-1") == APP


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"schema":2,"since":{}}'])
def test_broken_notes_say_what_to_do(stage: Stage, data: bytes) -> None:
    """They decide nothing but a time: removing them is safe, and the message says so."""
    path = stage.place.repos.state_path("gc.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    before = names(stage)
    with pytest.raises(Malformed) as caught:
        collect(stage, LATER)
    assert caught.value.remedy.startswith(f"rm {path}")
    assert names(stage) == before


def test_bad_calls_change_nothing(stage: Stage) -> None:
    """A grace time that would cut readers off; a time in the notes that is still to come."""
    for short in (timedelta(0), timedelta(minutes=59), -GRACE):
        with pytest.raises(Malformed):
            gc.collect(stage.place.repos, list, LATER, short)
    collect(stage, LATER)
    before = names(stage)
    assert collect(stage, NOW).due == ()
    assert names(stage) == before
    assert collect(stage, NOW + GRACE).due != ()


def test_a_workspace_without_a_repository_says_so(tmp_path: Path) -> None:
    """There is nothing to collect yet."""
    from simulators.signed import Signed  # noqa: PLC0415 - the only test without a stage

    place = Signed(tmp_path)
    with pytest.raises(NotFound):
        gc.survey(place.repos, list, NOW, GRACE)


def test_a_survey_changes_nothing_and_says_the_same(stage: Stage) -> None:
    """``--dry-run`` writes no notes either."""
    path = stage.place.repos.state_path("gc.json")
    gc.survey(stage.place.repos, list, NOW, GRACE)
    assert not path.exists()
    collect(stage, NOW)
    notes, before = path.read_bytes(), names(stage)
    seen = gc.survey(stage.place.repos, list, LATER, GRACE)
    assert (path.read_bytes(), names(stage)) == (notes, before)
    done = collect(stage, LATER)
    assert replace(seen, problems={}) == replace(done, problems={})
    assert msgspec.json.decode(path.read_bytes()) == {"schema": 1, "since": {}}
    assert not isinstance(done, OtaError)
