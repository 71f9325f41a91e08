"""Archives as an attacker would make them: refused whole, by name, nothing left behind."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import random
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ota.agent.installers import archive, manifest
from ota.agent.installers.archive import Limits
from signing.errors import Outage, Refusal
from signing.release import Format

Add = Callable[[tarfile.TarFile], None]


def member(name: str, data: bytes = b"x", **words: object) -> Add:
    """A tar member with any header fields."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.size = len(data) if words.get("type", tarfile.REGTYPE) == tarfile.REGTYPE else 0
        info.mode = 0o644
        for key, value in words.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data) if info.size else None)

    return add


def link(name: str, target: str) -> Add:
    return member(name, type=tarfile.SYMTYPE, linkname=target)


def hard(name: str, target: str) -> Add:
    return member(name, type=tarfile.LNKTYPE, linkname=target)


def tar_of(*members: Add, form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for add in members:
            add(tar)
    return buffer.getvalue()


def zip_of(*members: tuple[str, bytes, int]) -> bytes:
    """``(name, data, mode)``; mode with its file type, 0 for none."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data, mode in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, data)
    return buffer.getvalue()


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """A folder with a bystander and a place for the target."""
    (tmp_path / "bystander").write_text("not yours")
    (tmp_path / "releases").mkdir()
    return tmp_path


def unpack(
    box: Path, data: bytes, kind: Format = "tar", limits: Limits | None = None, strip: int = 0
) -> list[manifest.Row]:
    source = box / "archive"
    source.write_bytes(data)
    return archive.unpack(source, kind, box / "releases" / "new", limits or Limits(), strip)


def untouched(box: Path) -> None:
    """Nothing but the archive is there."""
    source = box / "archive"
    assert sorted(path.name for path in box.iterdir()) == ["archive", "bystander", "releases"]
    assert list((box / "releases").iterdir()) == []
    assert (box / "bystander").read_text() == "not yours"
    assert source.stat().st_nlink == 1


HOSTILE_TAR: dict[str, bytes] = {
    "absolute": tar_of(member("/etc/evil")),
    "parent": tar_of(member("../evil")),
    "parent in the middle": tar_of(member("a/../../evil")),
    "parent alone": tar_of(member("..", type=tarfile.DIRTYPE)),
    "backslash": tar_of(member("..\\evil")),
    "control character": tar_of(member("a\nb")),
    "escape sequence": tar_of(member("a\x1b[2Jb")),
    "line separator": tar_of(member("a\u2028b")),
    "not utf-8": tar_of(member("a\udcff"), form=tarfile.GNU_FORMAT),
    "long segment": tar_of(member("a" * 250)),
    "long name": tar_of(member("/".join(["abcdefgh"] * 130))),
    "deep": tar_of(member("/".join(["a"] * 70))),
    "absolute link": tar_of(link("l", "/etc")),
    "link out": tar_of(link("l", "..")),
    "link out deeper": tar_of(link("a/b/l", "../../../x")),
    "link out in the middle": tar_of(link("l", "a/../../x")),
    "link through itself": tar_of(link("dot", "."), link("l", "dot/..")),
    "link with NUL": tar_of(link("l", "a\x01b")),
    "empty link": tar_of(link("l", "")),
    "file through a link": tar_of(link("d", "sub"), member("d/evil")),
    "file over a link": tar_of(link("d", "bystander"), member("d")),
    "folder over a link": tar_of(link("d", "sub"), member("d", type=tarfile.DIRTYPE)),
    "link over a file": tar_of(member("d"), link("d", "sub")),
    "hard link out": tar_of(hard("l", "../../bystander")),
    "absolute hard link": tar_of(hard("l", "/etc/passwd")),
    "hard link to itself": tar_of(hard("l", "l")),
    "hard link to itself by dot": tar_of(hard("l", "./l")),
    "hard link to nothing": tar_of(hard("l", "missing")),
    "hard link to a later file": tar_of(hard("l", "f"), member("f")),
    "hard link to a link": tar_of(link("s", "f"), hard("l", "s")),
    "hard link to a folder": tar_of(member("d/f"), hard("l", "d")),
    "duplicate": tar_of(member("f"), member("f", b"other")),
    "duplicate by dot": tar_of(member("f"), member("./f", b"other")),
    "case": tar_of(member("File"), member("file")),
    "case of a folder": tar_of(member("Dir/a"), member("dir/b")),
    "unicode form": tar_of(member("\u00e9"), member("e\u0301")),
    "file and folder": tar_of(member("a"), member("a/b")),
    "character device": tar_of(member("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)),
    "block device": tar_of(member("sda", type=tarfile.BLKTYPE, devmajor=8)),
    "fifo": tar_of(member("pipe", type=tarfile.FIFOTYPE)),
    "contiguous file": tar_of(member("c", type=tarfile.CONTTYPE)),
    "unknown type": tar_of(member("u", type=b"Z")),
    "huge header": tar_of(
        member("f", pax_headers={"comment": "x" * (2 << 20)})  # kept in memory by its reader
    ),
}


@pytest.mark.parametrize("name", HOSTILE_TAR)
@pytest.mark.parametrize("first", [False, True], ids=["alone", "after an honest file"])
def test_hostile_tar(box: Path, name: str, first: bool) -> None:
    """Each trick is ``archive-hostile`` and leaves no trace, not even of honest members."""
    data = HOSTILE_TAR[name]
    if first:
        data = tar_of(member("honest/file"))[: 2 * 512] + data
    with pytest.raises(Refusal) as caught:
        unpack(box, data)
    assert caught.value.code == "archive-hostile"
    untouched(box)


HOSTILE_ZIP: dict[str, bytes] = {
    "absolute": zip_of(("/etc/evil", b"x", 0)),
    "parent": zip_of(("../evil", b"x", 0)),
    "backslash": zip_of(("..\\evil", b"x", 0)),
    "nul": zip_of(("ok\0../evil", b"x", 0)),
    "empty name": zip_of(("", b"x", 0)),
    "nothing before a nul": zip_of(("\0x", b"x", 0)),
    "link out": zip_of(("l", b"../../bystander", stat.S_IFLNK | 0o777)),
    "absolute link": zip_of(("l", b"/etc", stat.S_IFLNK | 0o777)),
    "long link": zip_of(("l", b"a" * 5000, stat.S_IFLNK | 0o777)),
    "link not utf-8": zip_of(("l", b"\xff", stat.S_IFLNK | 0o777)),
    "through a link": zip_of(("d", b"s", stat.S_IFLNK | 0o777), ("d/evil", b"x", 0)),
    "duplicate": zip_of(("f", b"x", 0), ("f", b"y", 0)),
    "case": zip_of(("File", b"x", 0), ("file", b"y", 0)),
    "fifo": zip_of(("pipe", b"", stat.S_IFIFO | 0o644)),
    "device": zip_of(("dev", b"", stat.S_IFCHR | 0o644)),
}


@pytest.mark.parametrize("name", HOSTILE_ZIP)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zip(box: Path, name: str) -> None:
    """The same for zip archives and wheels."""
    with pytest.raises(Refusal) as caught:
        unpack(box, HOSTILE_ZIP[name], "zip")
    assert caught.value.code == "archive-hostile"
    untouched(box)


BIG = bytes(80 << 20)


@pytest.mark.parametrize(
    ("kind", "pack"),
    [
        ("tar", lambda: gzip.compress(tar_of(member("zeros", BIG)), 1)),
        ("tar", lambda: lzma.compress(tar_of(member("zeros", BIG)), preset=0)),
        ("tar", lambda: bz2.compress(tar_of(member("zeros", BIG)), 1)),
        ("zip", lambda: zip_of(("zeros", BIG, 0))),
    ],
    ids=["gzip", "xz", "bzip2", "zip"],
)
def test_bomb(box: Path, kind: Format, pack: Callable[[], bytes]) -> None:
    """A few kilobytes that name many megabytes stop at the ratio's ceiling."""
    with pytest.raises(Refusal) as caught:
        unpack(box, pack(), kind, Limits(ratio=10))
    assert caught.value.code == "archive-hostile"
    untouched(box)


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("tar", tar_of(member("a", b"x" * 5000), member("b", b"x" * 5000))),
        ("zip", zip_of(("a", b"x" * 5000, 0), ("b", b"x" * 5000, 0))),
    ],
)
def test_ceilings(box: Path, kind: Format, data: bytes) -> None:
    """Unpacked bytes and entries have ceilings of their own."""
    for limits in (Limits(unpacked=9000), Limits(entries=1)):
        with pytest.raises(Refusal) as caught:
            unpack(box, data, kind, limits)
        assert caught.value.code == "archive-hostile"
        untouched(box)
    unpack(box, data, kind, Limits(unpacked=30_000, entries=2))


def test_xz_memory(box: Path) -> None:
    """An xz stream that wants a gigabyte of dictionary is refused before it gets it."""
    data = bytearray(lzma.compress(tar_of(member("f")), preset=0))
    assert data[12:14] == b"\x02\x00"  # block header: size, one filter
    data[16] = 38  # dictionary of 2 GiB; the header's check sum is mended below
    size = (data[12] + 1) * 4
    data[12 + size - 4 : 12 + size] = _crc(bytes(data[12 : 12 + size - 4]))
    with pytest.raises(Refusal) as caught:
        unpack(box, bytes(data))
    assert caught.value.code == "release-malformed"
    assert "emory" in str(caught.value)
    untouched(box)


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


HONEST = tar_of(
    member("top", type=tarfile.DIRTYPE),
    member("top/a", b"a" * 3000),
    member("top/b", b"b" * 512),
    link("top/l", "a"),
)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("packer", PACKERS)
def test_compressions(box: Path, packer: str) -> None:
    """Plain, gzip, xz and bzip2 give the same files, and a manifest that finds them whole."""
    rows = unpack(box, PACKERS[packer](HONEST))
    new = box / "releases" / "new"
    assert (new / "top" / "a").read_bytes() == b"a" * 3000
    assert (new / "top" / "l").readlink() == Path("a")
    manifest.write(box / "rows", rows)
    assert list(manifest.differences(new, box / "rows")) == []
    assert {row.path for row in rows} == {"top", "top/a", "top/b", "top/l"}


@pytest.mark.parametrize("packer", PACKERS)
def test_truncated(box: Path, packer: str) -> None:
    """Cut anywhere, also between two members, it is ``release-malformed``: no half release."""
    data = PACKERS[packer](HONEST)
    useful = len(HONEST.rstrip(b"\0")) + 512 if packer == "plain" else len(data)
    cuts = {*range(0, useful, max(1, useful // 60)), 512, 1024, 1536, useful - 1}
    for cut in sorted(cut for cut in cuts if cut < useful):
        with pytest.raises(Refusal) as caught:
            unpack(box, data[:cut])
        assert caught.value.code == "release-malformed", cut
        untouched(box)


def test_truncated_zip(box: Path) -> None:
    """The same for zip."""
    data = zip_of(("a", random.Random(1).randbytes(2000), 0), ("b", b"b", 0))
    for cut in range(0, len(data), 37):
        with pytest.raises(Refusal) as caught:
            unpack(box, data[:cut], "zip")
        assert caught.value.code == "release-malformed", cut
        untouched(box)


@pytest.mark.parametrize("packer", ["plain", "gzip", "xz", "bzip2", "zip"])
def test_flipped(box: Path, packer: str) -> None:
    """Any flipped byte: unpacked, refused, and never another kind of error or a stray file."""
    if packer == "zip":
        whole = zip_of(("a/b", b"some text" * 90, stat.S_IFREG | 0o755), ("c", b"x" * 40, 0))
    else:
        whole = PACKERS[packer](HONEST)
    chance = random.Random(7)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 3])):
            data[chance.randrange(min(len(data), 8000))] ^= 1 << chance.randrange(8)
        code = ""
        try:
            unpack(box, bytes(data), "zip" if packer == "zip" else "tar")
        except Refusal as e:
            code = e.code
            untouched(box)
        assert code in {"", "archive-hostile", "release-malformed"}
        assert {path.name for path in box.iterdir()} == {"archive", "bystander", "releases"}


@pytest.mark.parametrize(
    "data",
    [b"", b"x", bytes(1024), b"\x1f\x8b", b"BZh9", b"PK\x05\x06" + bytes(18), b"\xff" * 2000],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_no_archive(box: Path, data: bytes, kind: Format) -> None:
    """What is no archive, or an empty one, is ``release-malformed``."""
    with pytest.raises(Refusal) as caught:
        unpack(box, data, kind)
    assert caught.value.code == "release-malformed"
    untouched(box)


def test_chained_headers(box: Path) -> None:
    """Thousands of extended headers in a row are refused, not a stack overflow."""
    header = tar_of(member("f", pax_headers={"comment": "x"}))[:1024]
    with pytest.raises(Refusal) as caught:
        unpack(box, header * 3000 + bytes(1024))
    assert caught.value.code == "release-malformed"
    untouched(box)


def test_encrypted_zip(box: Path) -> None:
    """An encrypted member is refused."""
    data = bytearray(zip_of(("a", b"x", 0)))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(Refusal) as caught:
        unpack(box, bytes(data), "zip")
    assert caught.value.code == "release-malformed"


@pytest.mark.parametrize(
    ("mode", "kept"),
    [
        (0o4755, 0o755),
        (0o2755, 0o755),
        (0o1777, 0o755),
        (0o666, 0o644),
        (0o777, 0o755),
        (0o600, 0o600),
        (0o000, 0o600),
        (0o644, 0o644),
    ],
)
def test_modes(box: Path, mode: int, kept: int) -> None:
    """Set-id, sticky and foreign write bits are never kept; the umask has no say."""
    old = os.umask(0o077)
    try:
        unpack(box, tar_of(member("d", type=tarfile.DIRTYPE, mode=mode), member("d/f", mode=mode)))
    finally:
        os.umask(old)
    new = box / "releases" / "new"
    assert stat.S_IMODE((new / "d" / "f").lstat().st_mode) == kept
    assert stat.S_IMODE((new / "d").lstat().st_mode) == kept | 0o700
    assert stat.S_IMODE(new.lstat().st_mode) == 0o755
    assert (new / "d" / "f").lstat().st_uid == os.geteuid()


def test_honest_links(box: Path) -> None:
    """Links that stay inside work: up and down, to folders, dangling, hard."""
    unpack(
        box,
        tar_of(
            link("bin/python", "../lib/python3"),
            member("lib/python3/run", b"run"),
            link("lib/python", "python3"),
            link("dangling", "lib/later"),
            hard("copy", "lib/python3/run"),
        ),
    )
    new = box / "releases" / "new"
    assert (new / "bin" / "python" / "run").read_bytes() == b"run"
    assert (new / "lib" / "python" / "run").read_bytes() == b"run"
    assert (new / "copy").read_bytes() == b"run"
    assert not (new / "dangling").exists()
    for path in new.rglob("*"):
        assert path.resolve().is_relative_to(new.resolve())


def test_strip(box: Path) -> None:
    """``strip`` drops leading segments after the whole name was judged."""
    data = tar_of(member("app-1/bin/run", b"run"), hard("app-1/copy", "app-1/bin/run"))
    rows = unpack(box, data, strip=1)
    assert sorted(row.path for row in rows) == ["bin", "bin/run", "copy"]
    with pytest.raises(Refusal):
        unpack(box, tar_of(member("app/../../evil"), member("app/ok")), strip=1)
    with pytest.raises(Refusal):  # two names become one
        unpack(box, tar_of(member("a/f"), member("b/f")), strip=1)


def test_dot_names(box: Path) -> None:
    """``tar -C folder .`` writes names that begin with a dot segment."""
    rows = unpack(box, tar_of(member(".", type=tarfile.DIRTYPE), member("./a/b")))
    assert [row.path for row in rows] == ["a", "a/b"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_only_folders(box: Path, kind: Format) -> None:
    """An archive without a file is no release."""
    data = tar_of(member("d", type=tarfile.DIRTYPE)) if kind == "tar" else zip_of(("d/", b"", 0))
    with pytest.raises(Refusal) as caught:
        unpack(box, data, kind)
    assert caught.value.code == "release-malformed"
    untouched(box)


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.ENOSPC, "no-space"), (errno.EDQUOT, "no-space"), (errno.EIO, "installer")],
)
def test_disk_fails(box: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str) -> None:
    """A full or broken disk at any write is an outage, and what was written is removed."""
    for failing in (1, 2, 3):
        calls = [0]

        def write(
            descriptor: int,
            data: bytes,
            real: Callable[[int, bytes], int] = os.write,
            calls: list[int] = calls,
            failing: int = failing,
        ) -> int:
            calls[0] += 1
            if calls[0] == failing:
                raise OSError(number, os.strerror(number))
            return real(descriptor, data[:1000])

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", write)
            with pytest.raises(Outage) as caught:
                unpack(box, HONEST)
        assert caught.value.code == code
        untouched(box)


def test_leftover(box: Path) -> None:
    """A half-unpacked folder of an earlier crash is replaced, never merged."""
    left = box / "releases" / "new"
    left.mkdir()
    (left / "stale").write_text("from before")
    unpack(box, HONEST)
    assert sorted(path.name for path in left.iterdir()) == ["top"]


def test_many_members_little_memory(box: Path) -> None:
    """Members are not collected: two thousand entries pass in one stream."""
    rows = unpack(box, gzip.compress(tar_of(*(member(f"f{n}", b"") for n in range(2000))), 1))
    assert len(rows) == 2000
