"""Publishing: killed anywhere, the next one completes with the same bytes.

Readers never see a mixture; of two publishers one waits or is told so.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.signed import NOW, Signed, assignment, stock_client

from ota.errors import Busy, Malformed, NotFound, OtaError, Outage
from ota.ports import ArtifactStore
from ota.repositories.publishing import Publisher
from ota.repositories.release import Build
from signing import layout
from signing.edition import Edition, Upload

VERSIONS = {"1.0.0"}, {"1.0.0", "2.0.0"}


class Dying:
    """A store that dies at its Nth write: before its effect, or after it."""

    def __init__(self, inner: ArtifactStore, dies_at: int, *, after: bool) -> None:
        self._inner = inner
        self._left = dies_at
        self._after = after

    def _write(self, call: Callable[[], None]) -> None:
        self._left -= 1
        if self._left == 0 and not self._after:
            raise Outage("the store died")
        call()
        if self._left == 0:
            raise Outage("the store died")

    def get(self, name: str, limit: int) -> bytes | None:
        return self._inner.get(name, limit)

    def digest(self, name: str) -> tuple[int, str] | None:
        return self._inner.digest(name)

    def size(self, name: str) -> int | None:
        return self._inner.size(name)

    def list(self, prefix: str) -> Iterator[str]:
        return self._inner.list(prefix)

    def remove(self, name: str) -> None:
        self._write(lambda: self._inner.remove(name))

    def put(self, name: str, data: bytes) -> None:
        self._write(lambda: self._inner.put(name, data))

    def swap(self, name: str, data: bytes, expected: bytes | None) -> None:
        self._write(lambda: self._inner.swap(name, data, expected))

    def upload(self, item: Upload, progress: Callable[[int], None] | None = None) -> None:
        self._write(lambda: self._inner.upload(item, progress))


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    """Release 1.0.0 is published; 2.0.0 is signed and waits."""
    place = Signed(tmp_path / "w").created()
    place.released("1.0.0")
    place.releases.add(place.build("2.0.0"), NOW)
    place.signed()
    return place


def edition(place: Signed) -> Edition:
    pending = place.repos.pending("image")
    assert pending is not None
    signers = {role: [place.keys["image-online"]] for role in ("snapshot", "timestamp")}
    made = place.repos.image().close(pending, signers, NOW)
    assert made is not None
    return made


def seen(place: Signed, folder: Path) -> set[str]:
    """Versions that our client sees, which must be those that python-tuf's own client sees."""
    state = place.repos.image().state(NOW, check_expiry=True)
    assert state is not None
    ours = {r.version for r in state.releases(NOW).values()}
    updater = stock_client(place.store, folder, place.repos.anchors("image")[1])
    stock = set()
    for version in ("1.0.0", "2.0.0"):
        target = updater.get_targetinfo(f"app/app-{version}.bin")
        if target is not None:
            updater.download_target(target, str(folder / version))
            stock.add(version)
    assert ours == stock
    return ours


def stored(place: Signed, made: Edition) -> None:
    """The store holds the edition, byte for byte."""
    for name, data in (*made.files, made.swap[:2]):
        assert place.store.get(name, 1 << 24) == data
    for item in made.uploads:
        assert place.store.digest(item.name) == (item.length, item.sha256)


# -- order and crashes ---------------------------------------------------------------------------
def test_an_edition_goes_in_order(place: Signed) -> None:
    """Images first, versioned metadata next, the timestamp last."""
    made = edition(place)
    assert [u.name.split("/")[:3] for u in made.uploads] == [["image", "targets", "app"]]
    assert [n.split("/")[-1] for n, _ in made.files] == ["2.app.json", "3.snapshot.json"]
    assert made.swap[0] == "image/metadata/timestamp.json"
    assert made.swap[2] == place.store.get(made.swap[0], 1 << 20)


WRITES = 4


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dies_at", range(1, WRITES + 1))
def test_a_publish_that_dies_is_completed_with_the_same_bytes(
    place: Signed, tmp_path: Path, dies_at: int, after: bool
) -> None:
    """At every write: readers see old or new; resume repeats the very bytes (rule 2)."""
    made = edition(place)
    outbox = place.folder / "state" / "outbox"
    dying = Dying(place.store, dies_at, after=after)
    with pytest.raises(Outage):
        Publisher(dying, outbox).publish(made)
    complete = dies_at == WRITES and after
    assert seen(place, tmp_path / "c1") == VERSIONS[complete]
    assert Publisher(place.store, outbox).waiting() == ["image"]
    assert Publisher(place.store, outbox).resume() == ["image"]
    assert seen(place, tmp_path / "c2") == VERSIONS[True]
    stored(place, made)
    assert Publisher(place.store, outbox).waiting() == []
    assert Publisher(place.store, outbox).resume() == []


def test_there_are_as_many_writes_as_the_tests_die_at(place: Signed) -> None:
    """Dying at one write more than there are is not dying."""
    Publisher(Dying(place.store, WRITES + 1, after=False), place.folder / "o").publish(
        edition(place)
    )


def killed_at(place: Signed, call: int) -> bool:
    """Publish in a process that is killed just before its Nth fsync, rename or unlink."""
    pid = os.fork()
    if pid == 0:
        left = call

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def counted(*args: Any, **more: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **more)

            return counted

        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, wrapped(getattr(os, name)))
        code = 1
        try:
            place.repos.publish(NOW)
            code = 0
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in {0, -signal.SIGKILL}
    return status != 0


def test_sigkill_at_every_persisted_step(place: Signed, tmp_path: Path) -> None:
    """A real process, killed before each fsync, rename and unlink of a whole ``publish``.

    Each time: readers see old or new, the same command again completes, nothing waits any more,
    no temporary file is listed, and one version number never has two contents.
    """
    template = tmp_path / "template"
    shutil.copytree(place.folder, template)
    kills = 0
    while True:
        shutil.rmtree(place.folder)
        shutil.copytree(template, place.folder)
        if not killed_at(place, kills + 1):
            break
        kills += 1
        before = seen(place, tmp_path / f"a{kills}")
        assert before in VERSIONS
        half = {n: place.store.get(n, 1 << 24) for n in place.store.list("")}
        entry = place.repos.publisher.waiting()
        try:
            place.repos.publish(NOW + timedelta(hours=1))
        except NotFound:
            assert before == VERSIONS[True]
        assert seen(place, tmp_path / f"b{kills}") == VERSIONS[True]
        assert place.repos.pending("image") is None
        for name, data in half.items():
            if not name.endswith("timestamp.json"):
                assert place.store.get(name, 1 << 24) == data
        if entry:
            assert layout.image_metadata("4.snapshot.json") not in set(place.store.list("")), (
                "what was durable is repeated, not made anew"
            )
    assert kills >= 15


# -- races ---------------------------------------------------------------------------------------
def test_the_loser_of_a_race_is_told_and_leaves_no_trace(place: Signed, tmp_path: Path) -> None:
    """Two editions of one base: the second one gets exit 7 and keeps nothing in its outbox.

    Readers are well, and its next attempt takes the next free versions and succeeds.
    """
    mine = edition(place)
    place.repos.refresh(NOW + timedelta(minutes=1))
    outbox = tmp_path / "mine"
    with pytest.raises(Busy) as caught:
        Publisher(place.store, outbox).publish(mine)
    assert caught.value.exit_code == 7
    assert Publisher(place.store, outbox).waiting() == []
    assert seen(place, tmp_path / "c1") == VERSIONS[False]
    again = edition(place)
    assert [n.split("/")[-1] for n, _ in again.files] == ["2.app.json", "4.snapshot.json"]
    Publisher(place.store, outbox).publish(again)
    assert seen(place, tmp_path / "c2") == VERSIONS[True]


def test_a_swap_that_succeeded_unseen_is_a_success(place: Signed) -> None:
    """The answer to the swap was lost: the store holds our bytes, so it is done."""
    made = edition(place)
    place.repos.publisher.publish(made)
    place.repos.publisher.publish(made)
    assert place.repos.publisher.waiting() == []


def test_a_resumed_edition_that_lost_meanwhile_is_dropped(place: Signed, tmp_path: Path) -> None:
    """Died before the swap, another published: resuming changes nothing that readers see."""
    made = edition(place)
    outbox = tmp_path / "mine"
    with pytest.raises(Outage):
        Publisher(Dying(place.store, WRITES, after=False), outbox).publish(made)
    place.repos.refresh(NOW + timedelta(minutes=1))
    assert Publisher(place.store, outbox).resume() == []
    assert Publisher(place.store, outbox).waiting() == []
    assert seen(place, tmp_path / "c1") == VERSIONS[False]


def test_a_second_publisher_of_one_workspace_waits_or_is_busy(place: Signed) -> None:
    """One outbox, one publisher at a time."""
    made = edition(place)
    outbox = place.folder / "state" / "outbox"
    with Publisher(place.store, outbox)._locked("image"):
        with pytest.raises(Busy) as caught:
            Publisher(place.store, outbox, wait=0.05).publish(made)
        assert caught.value.exit_code == 7
        Publisher(place.store, outbox, wait=0.05).publish(
            replace(made, key="director/other", uploads=(), files=(), swap=("x", b"1", None))
        )
    Publisher(place.store, outbox, wait=0.05).publish(made)


def test_the_desk_tries_again_when_another_was_first(place: Signed) -> None:
    """Two operators assign to one device: both assignments end in its metadata."""
    wanted = place.releases.resolve("app@1.0.0", NOW)[0]
    place.desk.register("gw-1", NOW)
    approved = place.authorised(place.plan(wanted, None, "gw-1"))
    desk, other = place.desk, place.desk
    publish = desk._publisher.publish
    calls = 0

    def slow(made: Edition) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            other.refresh("gw-1", NOW)
        publish(made)

    desk._publisher.publish = slow  # type: ignore[method-assign]  # the other operator is quicker
    desk.assign(approved, "gw-1", assignment(wanted), NOW)
    assert desk.assignments("gw-1") == {"app": assignment(wanted)}


# -- bad input -----------------------------------------------------------------------------------
def test_a_build_that_changed_after_signing_publishes_nothing(place: Signed) -> None:
    """The file is hashed again while it is copied; the store and its readers see nothing."""
    before = list(place.store.list(""))
    (place.folder / "app-2.0.0.bin").write_bytes(b"changed")
    with pytest.raises(Malformed, match=r"app-2\.0\.0\.bin") as caught:
        place.repos.publish(NOW)
    assert caught.value.code == "source-changed"
    assert list(place.store.list("")) == before
    assert place.repos.publisher.waiting() == []
    assert place.repos.pending("image") is not None


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"key":"a","files":[["x","!"]]}'])
def test_an_outbox_entry_that_is_none_is_named(tmp_path: Path, data: bytes) -> None:
    """A broken entry is an error with the file's name; it is never half-published."""
    place = Signed(tmp_path / "w")
    path = place.repos.publisher._entry("image")
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    with pytest.raises(Malformed, match=path.name):
        place.repos.publisher.resume()
    assert path.exists()
    assert list(place.store.list("")) == []


def test_progress_is_told_for_images(place: Signed) -> None:
    """(name, bytes done, bytes in all) until it is all."""
    told: list[tuple[str, int, int]] = []
    place.repos.publish(NOW, progress=lambda *args: told.append(args))
    assert told
    assert told[-1][1] == told[-1][2]


def test_a_tampered_image_in_the_store_stops_the_publish(place: Signed) -> None:
    """Bytes of another under the image's name: refused, not listed."""
    made = edition(place)
    place.store.put(made.uploads[0].name, b"evil")
    with pytest.raises(OtaError) as caught:
        place.repos.publish(NOW)
    assert caught.value.code == "image-mismatch"
    assert [i.release.version for i in place.releases.listing(NOW) if i.state == "published"] == [
        "1.0.0"
    ]


def test_a_large_image_is_published_without_reading_it_into_memory(place: Signed) -> None:
    """200 MB sparse: streamed, hashed twice, and listed."""
    path = place.folder / "big.bin"
    with path.open("wb") as file:
        file.truncate(200 * 1024 * 1024)
    place.repos.discard("image")
    release = place.releases.add(Build(path, "app", "9", ("gw-rev-b",)), NOW)
    place.signed()
    place.releases.publish(NOW)
    name = layout.image_target(release.path, release.sha256)
    assert place.store.digest(name) == (200 * 1024 * 1024, release.sha256)
