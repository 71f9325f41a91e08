"""What a workspace remembers of each device's director metadata: newest, whole, and cheap to ask."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.signed import NOW, Signed, assignment

from ota.errors import Malformed, OtaError, Outage, Refusal
from ota.stores.directory import DirectoryStore
from signing.director.memory import DirectorMemory
from signing.report import Versions

FILES = ("root.json", "timestamp.json", "snapshot.json", "targets.json")


class Asked(DirectoryStore):
    """A store that notes what is read of devices' metadata."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: Counter[str] = Counter()

    def get(self, name: str, limit: int) -> bytes | None:
        if name.startswith("director/devices/"):
            self.asked[name.rpartition("/")[2]] += 1
        return super().get(name, limit)


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    place = Signed(tmp_path, store=Asked(tmp_path / "store")).created()
    release = place.released("1.0.0")
    place.desk.register("gw-1", NOW)
    approved = place.authorised(place.plan(release, None, "gw-1"))
    place.desk.assign(approved, "gw-1", assignment(release, least_image_snapshot=2), NOW)
    place.desk.state("gw-1")
    return place


def memory(place: Signed) -> DirectorMemory:
    return DirectorMemory(place.folder / "state" / "seen" / "director.sqlite")


def asked(place: Signed, look: Callable[[], object]) -> dict[str, int]:
    assert isinstance(place.store, Asked)
    place.store.asked.clear()
    look()
    return dict(place.store.asked)


def test_what_is_unchanged_costs_one_request(place: Signed) -> None:
    """The timestamp is the same bytes: nothing else is fetched, and the same is said."""
    before = place.desk.state("gw-1")
    assert asked(place, lambda: place.desk.state("gw-1")) == {"timestamp.json": 1}
    assert place.desk.state("gw-1") == before
    assert set(before.assignments) == {"app"}


def test_what_changed_is_fetched_once(place: Signed) -> None:
    """After a new timestamp alone, snapshot and targets are remembered."""
    place.desk.refresh("gw-1", NOW + timedelta(hours=1))
    requests = asked(place, lambda: place.desk.state("gw-1"))
    assert "2.targets.json" not in requests
    assert "2.snapshot.json" not in requests
    assert asked(place, lambda: place.desk.state("gw-1")) == {"timestamp.json": 1}


def test_another_process_finds_it(place: Signed) -> None:
    """It is on disk, for its owner alone, with everything that a client starts from."""
    found = memory(place).of("gw-1")
    assert tuple(found.load()) == FILES
    assert found.versions() == Versions(root=1, timestamp=2, snapshot=2, targets=2)
    assert memory(place).of("gw-2").load(b"root") == {"root.json": b"root"}
    assert memory(place).of("gw-2").versions() == Versions()
    mode = (place.folder / "state" / "seen" / "director.sqlite").stat().st_mode
    assert mode & 0o777 == 0o600


def test_an_older_set_is_never_kept_over_a_newer_one(place: Signed) -> None:
    """A slow process that read before the others wrote."""
    director = place.repos.director()
    slow = director._open("gw-1", NOW)
    place.desk.refresh("gw-1", NOW + timedelta(hours=1))
    place.desk.state("gw-1")
    newer = dict(memory(place).of("gw-1").load())
    memory(place).of("gw-1").keep(slow)
    assert dict(memory(place).of("gw-1").load()) == newer


def test_threads_and_processes_share_it(place: Signed) -> None:
    """Eight at a time, each with a connection of its own or all with one."""
    director = place.repos.director()
    clients = {f"gw-{n}": director._open("gw-1", NOW) for n in range(1, 41)}
    shared = memory(place)
    problems: list[BaseException] = []

    def keep(device: str) -> None:
        try:
            (shared if device[-1] in "13579" else memory(place)).of(device).keep(clients[device])
        except OtaError as e:
            problems.append(e)

    threads = [threading.Thread(target=keep, args=(device,)) for device in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert {shared.of(d).versions().timestamp for d in clients} == {2}


@pytest.mark.parametrize("part", ["timestamp", "snapshot", "targets"])
def test_a_damaged_row_is_read_again(place: Signed, part: str) -> None:
    """A bit that fell over on our own disk accuses nobody."""
    path = place.folder / "state" / "seen" / "director.sqlite"
    with sqlite3.connect(path) as db:
        (data,) = db.execute(f"SELECT {part} FROM device").fetchone()  # noqa: S608 - of our own list
        broken = data.replace(b'"version":2', b'"version":3')
        assert broken != data
        db.execute(f"UPDATE device SET {part} = ?", (broken,))  # noqa: S608 - the same
    place.reload()
    assert set(place.desk.state("gw-1").assignments) == {"app"}
    assert memory(place).of("gw-1").load()[f"{part}.json"] == data


def test_a_damaged_root_is_named(place: Signed) -> None:
    """Ours, in our own file; the store is not accused."""
    with sqlite3.connect(place.folder / "state" / "seen" / "director.sqlite") as db:
        db.execute("UPDATE root SET data = ?", (b"{}",))
    with pytest.raises(Refusal, match=r"director\.sqlite") as caught:
        memory(place).of("gw-1").load()
    assert "remove that file" in caught.value.remedy


@pytest.mark.parametrize("how", ["noise", "newer"])
def test_a_file_that_is_none_of_ours(tmp_path: Path, how: str) -> None:
    """Named, with the way out; it is not begun anew by itself."""
    path = tmp_path / "director.sqlite"
    if how == "noise":
        path.write_bytes(bytes(range(256)) * 20)
    else:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 9")
    before = path.read_bytes()
    with pytest.raises(Malformed, match=r"director\.sqlite") as caught:
        DirectorMemory(path).of("gw-1").load()
    assert "remove that file" in caught.value.remedy
    assert how == "newer" or path.read_bytes() == before


def test_a_folder_that_can_not_be_written_is_an_outage(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "seen").write_text("")
    with pytest.raises(Outage):
        DirectorMemory(tmp_path / "seen" / "director.sqlite").of("gw-1").load()


def test_what_did_not_end_did_not_happen(place: Signed) -> None:
    """A transaction that did not end leaves what was there."""
    found = memory(place)
    before = dict(found.of("gw-1").load())

    def killed() -> None:
        with found.transaction("BEGIN IMMEDIATE") as db:
            db.execute("DELETE FROM device")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert dict(found.of("gw-1").load()) == before
    assert dict(memory(place).of("gw-1").load()) == before


def test_a_second_memory_of_one_process_takes_no_locks_away(place: Signed) -> None:
    """A file that is closed beside SQLite drops its locks; then another process's commit is lost."""
    path = place.folder / "state" / "seen" / "director.sqlite"
    writes = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    first = memory(place)
    with first.transaction("BEGIN IMMEDIATE"):
        second = memory(place)
        assert second.of("gw-1").versions().timestamp == 2
        found = subprocess.run([sys.executable, "-c", writes], capture_output=True, check=False)
        assert b"database is locked" in found.stderr


def test_a_full_disk_is_an_outage_and_takes_nothing_away(place: Signed) -> None:
    """What was remembered stands, and with room again the next set is kept."""
    found = memory(place)
    client = place.repos.director()._open("gw-1", NOW)
    before = dict(found.of("gw-1").load())
    assert found._db is not None
    (pages,) = found._db.execute("PRAGMA page_count").fetchone()
    found._db.execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(200):
            found.of(f"other-{number}").keep(client)

    with pytest.raises(Outage) as caught:
        fill()
    assert caught.value.code == "no-space"
    assert dict(found.of("gw-1").load()) == before
    found._db.execute("PRAGMA max_page_count = 1000000")
    found.of("other-199").keep(client)
    assert found.of("other-199").versions().timestamp == 2
