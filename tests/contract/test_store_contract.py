"""What every artifact store promises; each adapter runs this suite."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulators import buckets

from ota.errors import Busy, Malformed, NotFound, OtaError, Outage, Refusal
from ota.ports import ArtifactStore
from ota.stores.directory import DirectoryStore
from signing.edition import Upload

NAME = "image/metadata/1.targets.json"
TIMESTAMP = "image/metadata/timestamp.json"


Stores = Callable[[], ArtifactStore]


@pytest.fixture(params=["directory", "s3"])
def stores(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stores:
    """Makes stores of one place, each as a process of its own would have it."""
    if request.param == "directory":
        return lambda: DirectoryStore(tmp_path / "a store")
    return buckets.Made.bucket(request.getfixturevalue("aws"), monkeypatch, tmp_path).store


@pytest.fixture
def store(stores: Stores) -> ArtifactStore:
    return stores()


def item(folder: Path, data: bytes, name: str = "image/targets/app/x.bin") -> Upload:
    source = folder / "source.bin"
    source.write_bytes(data)
    return Upload(name, source, hashlib.sha256(data).hexdigest(), len(data))


def objects(store: ArtifactStore) -> dict[str, bytes | None]:
    return {name: store.get(name, 1 << 30) for name in store.list("")}


# -- put and get ---------------------------------------------------------------------------------
def test_what_was_put_is_got(store: ArtifactStore) -> None:
    """Bytes come back; what is not there is None, also below a file and for a folder."""
    assert store.get(NAME, 10) is None
    store.put(NAME, b"data")
    assert store.get(NAME, 4) == b"data"
    assert store.get("image", 10) is None
    assert store.get(f"{NAME}/below", 10) is None
    assert store.digest(NAME) == (4, hashlib.sha256(b"data").hexdigest())
    assert store.digest("image/none") is None


def test_a_part_of_an_object(store: ArtifactStore) -> None:
    """From any offset, as much as there is; nothing past its end; NotFound where it is not."""
    store.put(NAME, b"0123456789")
    found = [store.piece(NAME, *part) for part in ((0, 4), (4, 4), (8, 4), (10, 4), (99, 4))]
    assert found == [b"0123", b"4567", b"89", b"", b""]
    with pytest.raises(NotFound):
        store.piece("image/none", 0, 1)
    with pytest.raises(Malformed):
        store.piece("../secret", 0, 1)


def test_an_immutable_object_stays(store: ArtifactStore) -> None:
    """The same bytes again are nothing; other bytes are Busy, and the first ones stay."""
    store.put(NAME, b"data")
    store.put(NAME, b"data")
    for other in (b"other", b"", b"data and more"):
        with pytest.raises(Busy) as caught:
            store.put(NAME, other)
        assert caught.value.exit_code == 7
    assert objects(store) == {NAME: b"data"}


def test_an_object_longer_than_the_limit_is_refused(store: ArtifactStore) -> None:
    """A store that serves more than asked for is not read to the end."""
    store.put(NAME, b"12345")
    with pytest.raises(Refusal) as caught:
        store.get(NAME, 4)
    assert caught.value.code == "oversize"


BAD_NAMES = [
    "",
    "/",
    "/etc/passwd",
    "../x",
    "a/../b",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.tmp",
    "a\\b",
    "a b",
    "a\x00b",
    "ä",
    "a\n",
    "x" * 256,
    "/".join("a" * 17),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_bad_name_touches_nothing(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    """Names are checked before any path is built, in every method."""
    upload = item(tmp_path, b"x", name)
    for call in (
        lambda: store.get(name, 1),
        lambda: store.put(name, b"x"),
        lambda: store.swap(name, b"x", None),
        lambda: store.upload(upload),
        lambda: store.digest(name),
        lambda: store.size(name),
        lambda: store.remove(name),
    ):
        with pytest.raises(Malformed):
            call()
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["source.bin"]


def test_names_of_layouts_are_good(store: ArtifactStore) -> None:
    """Percent-encoded ids, colons, plus and tilde occur in real names."""
    names = ["director/devices/gw%3A1/timestamp.json", "image/targets/a:b/00.x+1~rc.bin", "_a/-b"]
    for name in names:
        store.put(name, b"x")
    assert list(store.list("")) == sorted(names)


def test_list_gives_names_below_a_prefix_sorted(store: ArtifactStore) -> None:
    """Prefixes may end within a name; nothing temporary is listed."""
    for name in ("b/2", "b/10", "a/1", "b/c/3"):
        store.put(name, b"x")
    assert list(store.list("")) == ["a/1", "b/10", "b/2", "b/c/3"]
    assert list(store.list("b/")) == ["b/10", "b/2", "b/c/3"]
    assert list(store.list("b/1")) == ["b/10"]
    assert list(store.list("c/")) == []


# -- size and remove -----------------------------------------------------------------------------
def test_a_removed_object_is_gone_and_its_neighbours_stay(store: ArtifactStore) -> None:
    """Removed is not listed, not got, not sized; removing again or what never was is nothing."""
    for name in (NAME, TIMESTAMP, f"{NAME}.x"):
        store.put(name, b"data")
    store.remove(NAME)
    store.remove(NAME)
    store.remove("image/none/at/all")
    assert (store.get(NAME, 9), store.size(NAME), store.digest(NAME)) == (None, None, None)
    assert objects(store) == {TIMESTAMP: b"data", f"{NAME}.x": b"data"}
    store.put(NAME, b"other")
    assert store.get(NAME, 9) == b"other"


def test_a_folder_is_not_an_object_that_could_be_removed(store: ArtifactStore) -> None:
    """A prefix of names has no size, and removing it removes nothing."""
    store.put(NAME, b"data")
    assert store.size("image/metadata") is None
    store.remove("image/metadata")
    assert objects(store) == {NAME: b"data"}


def test_sizes_need_no_reading(store: ArtifactStore, tmp_path: Path) -> None:
    """Small objects and images alike."""
    store.put(NAME, b"data")
    store.upload(item(tmp_path, b"image" * 1000))
    assert store.size(NAME) == 4
    assert store.size("image/targets/app/x.bin") == 5000


# -- swap ----------------------------------------------------------------------------------------
def test_swap_replaces_only_what_was_expected(store: ArtifactStore) -> None:
    """Compare-and-swap: absent, then old; whoever expects something else is Busy."""
    store.swap(TIMESTAMP, b"1", None)
    store.swap(TIMESTAMP, b"2", b"1")
    for wrong in (None, b"1", b"", b"22"):
        with pytest.raises(Busy):
            store.swap(TIMESTAMP, b"3", wrong)
    assert store.get(TIMESTAMP, 9) == b"2"
    with pytest.raises(Busy):
        store.swap("other", b"1", b"0")
    assert list(store.list("")) == [TIMESTAMP]


def forked(work: Callable[[], None]) -> int:
    """Run in a process of its own; exit codes are those of the errors."""
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        work()
        code = 0
    except OtaError as e:
        code = e.exit_code
    finally:
        os._exit(code)


def exits(*pids: int) -> list[int]:
    return sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)


def test_of_two_processes_that_swap_at_once_one_wins(stores: Stores) -> None:
    """Rounds of four processes each: always exactly one succeeds, the others exit 7."""
    before: bytes | None = None
    for turn in range(20 if isinstance(stores(), DirectoryStore) else 3):
        read, write = os.pipe()

        def work(me: int, expected: bytes | None = before, start: int = read) -> None:
            store = stores()
            store.get(TIMESTAMP, 99)
            os.read(start, 1)
            store.swap(TIMESTAMP, b"%d-%d" % (turn, me), expected)  # noqa: B023 - forked at once

        pids = [forked(lambda me=me: work(me)) for me in range(4)]
        os.write(write, b"gogo")
        assert exits(*pids) == [0, 7, 7, 7]
        os.close(read)
        os.close(write)
        before = stores().get(TIMESTAMP, 99)
        assert before is not None
        assert before.startswith(b"%d-" % turn)


def test_of_two_processes_that_put_at_once_one_wins(stores: Stores) -> None:
    """The loser's bytes are nowhere; equal bytes make both succeed."""
    turns = 10 if isinstance(stores(), DirectoryStore) else 2
    for turn in range(turns):
        name = f"x/{turn}"
        pids = [forked(lambda me=me, n=name: stores().put(n, b"%d" % me)) for me in range(3)]
        assert exits(*pids) == [0, 7, 7]
        same = [forked(lambda n=name: stores().put(f"{n}-same", b"s")) for _ in range(3)]
        assert exits(*same) == [0, 0, 0]
    assert len(list(stores().list("x/"))) == 2 * turns


# -- upload --------------------------------------------------------------------------------------
def test_upload_copies_and_reports_progress(store: ArtifactStore, tmp_path: Path) -> None:
    """The object holds the source's bytes; progress rises to the length."""
    data = os.urandom(3 * 1024 * 1024 + 17)
    seen: list[int] = []
    store.upload(item(tmp_path, data), seen.append)
    assert store.get("image/targets/app/x.bin", len(data)) == data
    assert seen == sorted(seen)
    assert seen[-1] == len(data)


def test_upload_again_needs_no_source(store: ArtifactStore, tmp_path: Path) -> None:
    """Resuming after the build machine is gone works, if the bytes had arrived."""
    upload = item(tmp_path, b"data")
    store.upload(upload)
    upload.source.unlink()
    store.upload(upload)
    assert store.get(upload.name, 4) == b"data"


@pytest.mark.parametrize("data", [b"", b"dat", b"datb", b"data and more"])
def test_a_source_that_changed_is_not_uploaded(
    store: ArtifactStore, tmp_path: Path, data: bytes
) -> None:
    """Shorter, longer, other bytes: an error that names the file, and nothing in the store."""
    upload = item(tmp_path, b"data")
    upload.source.write_bytes(data)
    with pytest.raises(Malformed) as caught:
        store.upload(upload)
    assert caught.value.code == "source-changed"
    assert str(upload.source) in str(caught.value)
    assert objects(store) == {}


def test_a_source_that_is_gone_is_not_found(store: ArtifactStore, tmp_path: Path) -> None:
    """Gone before it was copied."""
    upload = item(tmp_path, b"data")
    upload.source.unlink()
    with pytest.raises(NotFound):
        store.upload(upload)
    assert objects(store) == {}


def test_other_bytes_under_an_images_name_are_refused(store: ArtifactStore, tmp_path: Path) -> None:
    """The name holds the hash: other bytes are tampering, and stay for a person to see."""
    upload = item(tmp_path, b"data")
    store.put(upload.name, b"evil")
    with pytest.raises(Refusal) as caught:
        store.upload(upload)
    assert caught.value.code == "image-mismatch"


# -- the directory store alone -------------------------------------------------------------------
@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 256 KiB."""
    mount = tmp_path / "small"
    mount.mkdir()
    assert os.system(f"mount -t tmpfs -o size=256k tmpfs '{mount}'") == 0  # noqa: S605 - a fixture
    try:
        yield mount
    finally:
        os.system(f"umount -l '{mount}'")  # noqa: S605 - the same


def test_a_full_disk_leaves_nothing_behind(small_disk: Path, tmp_path: Path) -> None:
    """ENOSPC is an outage with its own code; what was there stays, and fits again afterwards."""
    store = DirectoryStore(small_disk / "s")
    store.swap(TIMESTAMP, b"old", None)
    big = os.urandom(400 * 1024)
    for call in (
        lambda: store.put(NAME, big),
        lambda: store.upload(item(tmp_path, big)),
        lambda: store.swap(TIMESTAMP, big, b"old"),
    ):
        with pytest.raises(Outage) as caught:
            call()
        assert caught.value.code == "no-space"
        assert objects(store) == {TIMESTAMP: b"old"}
    store.put(NAME, b"x" * 100 * 1024)
    assert list((small_disk / "s" / ".tmp").iterdir()) == []


def test_what_a_killed_upload_left_is_swept(tmp_path: Path) -> None:
    """A temporary file without a living writer goes with the next upload; a live one stays."""
    store = DirectoryStore(tmp_path / "s")
    store.put(NAME, b"x")
    dead = tmp_path / "s" / ".tmp" / "1-2-3"
    dead.write_bytes(b"half")
    with store._temporary("living") as living:
        store.upload(item(tmp_path, b"data"))
        assert Path(living.name).exists()
    assert not dead.exists()


def test_readers_are_given_readable_files(tmp_path: Path) -> None:
    """A web server of another user can read objects, whatever they were made from."""
    before = os.umask(0o022)
    try:
        store = DirectoryStore(tmp_path / "s")
        store.put(NAME, b"x")
        store.upload(item(tmp_path, b"data"))
    finally:
        os.umask(before)
    for name in store.list(""):
        assert stat.S_IMODE((tmp_path / "s" / name).stat().st_mode) == 0o644


def test_an_unreadable_store_is_an_outage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An I/O error is never taken for "not there"."""
    store = DirectoryStore(tmp_path / "s")
    store.put(NAME, b"x")

    def broken(*_args: object, **_more: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "open", broken)
    with pytest.raises(Outage):
        store.get(NAME, 10)
    with pytest.raises(Outage):
        store.put(NAME, b"x")
