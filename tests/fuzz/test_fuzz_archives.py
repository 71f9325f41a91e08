"""Archives: a tree inside the target, or a refusal and nothing at all; never a byte elsewhere."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged

from ota.agent.installers import archive, manifest
from ota.agent.installers.archive import Limits
from signing.errors import Refusal
from signing.release import Format

LIMITS = Limits(unpacked=1 << 20, ratio=50, entries=40)
CODES = {"archive-hostile", "release-malformed"}
NAMES = st.one_of(
    st.sampled_from(
        ["a", "a/b", "A", "./a", "a/", "/etc/x", "../x", "a/../../x", ".", "..", "", "l", "l/x"]
    ),
    st.lists(st.text(max_size=6), max_size=4).map("/".join),
)
TARGETS = NAMES | st.sampled_from(["..", "../..", "/", "/etc/passwd", "l", "a/../..", "\\", "a\\b"])
TYPES = [
    *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE),
    *(tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"),
]
PACKING: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """A tar archive of any members under any header fields."""
    buffer = io.BytesIO()
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogatepass") as tar:
        for _ in range(draw(st.integers(1, 5))):
            info = tarfile.TarInfo(draw(NAMES))
            info.type = draw(st.sampled_from(TYPES))
            info.linkname = draw(TARGETS)
            info.mode = draw(st.integers(0, 0o7777))
            data = draw(st.binary(max_size=40)) * draw(st.sampled_from([1, 1, 1, 2000]))
            info.size = len(data) if info.type == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    return PACKING[draw(st.sampled_from(sorted(PACKING)))](buffer.getvalue())


@st.composite
def zips(draw: st.DrawFn) -> bytes:
    """A zip archive of any members with any modes and ways to pack them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for _ in range(draw(st.integers(1, 5))):
            info = zipfile.ZipInfo("x")
            info.filename = draw(NAMES)
            kinds = [stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, 0]
            mode = draw(st.sampled_from(kinds)) | draw(st.integers(0, 0o7777))
            info.external_attr = mode << 16
            ways = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]
            info.compress_type = draw(st.sampled_from(ways))
            link = stat.S_ISLNK(mode)
            data = (
                draw(TARGETS).encode("utf-8", "replace") if link else draw(st.binary(max_size=40))
            )
            file.writestr(info, data * (1 if link else draw(st.sampled_from([1, 1, 2000]))))
    return buffer.getvalue()


def unpacked(data: bytes, kind: Format, strip: int = 0) -> list[manifest.Row] | None:
    """Unpack within a folder that is watched; the rows, or None for a refusal."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as box:
        source, bystander = Path(box) / "archive", Path(box) / "bystander"
        source.write_bytes(data)
        bystander.write_text("not yours")
        (Path(box) / "releases").mkdir()
        target = Path(box) / "releases" / "new"
        rows: list[manifest.Row] | None = None
        try:
            rows = archive.unpack(source, kind, target, LIMITS, strip)
        except Refusal as refusal:
            assert refusal.code in CODES
            assert not target.exists()
        assert sorted(os.listdir(box)) == ["archive", "bystander", "releases"]  # noqa: PTH208
        assert bystander.read_text() == "not yours"
        assert bystander.stat().st_nlink == source.stat().st_nlink == 1
        assert {p.name for p in (Path(box) / "releases").iterdir()} <= {"new"}
        if rows is not None:
            as_the_manifest_says(target, rows)
    return rows


def as_the_manifest_says(target: Path, rows: list[manifest.Row]) -> None:
    """Every entry is named, stays inside, and has no right that an archive must not give."""
    found = {str(p.relative_to(target)): p for p in target.rglob("*")}
    assert set(found) == {row.path for row in rows}
    total = 0
    for row in rows:
        path = found[row.path]
        mode = path.lstat().st_mode
        if row.kind == "link":
            inside = Path(os.path.normpath(path.parent / os.readlink(path)))  # noqa: PTH115
            assert inside.is_relative_to(target)
            assert Path(os.path.realpath(path)).is_relative_to(target)
            continue
        assert stat.S_ISREG(mode) or stat.S_ISDIR(mode)
        assert not mode & 0o7022
        total += path.stat().st_size if row.kind == "file" else 0
    assert total <= LIMITS.budget(1 << 30).limit


@budget(1.5)
@given(tars(), st.integers(0, 2))
def test_any_tar(data: bytes, strip: int) -> None:
    """Whatever a signer's build was fed with."""
    unpacked(data, "tar", strip)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@budget(1)
@given(zips(), st.integers(0, 2))
def test_any_zip(data: bytes, strip: int) -> None:
    """The same for zip."""
    unpacked(data, "zip", strip)


def _samples() -> dict[tuple[Format, str], bytes]:
    """Honest archives of every kind."""
    tar, pax = io.BytesIO(), {"comment": "é" * 40}
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, words in (("d/run", {"mode": 0o755}), ("d/data", {"pax_headers": pax})):
            info = tarfile.TarInfo(name)
            info.size = 300
            for key, value in words.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(b"abc" * 100))
        link = tarfile.TarInfo("current")
        link.type, link.linkname = tarfile.SYMTYPE, "d/run"
        file.addfile(link)
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("d/run", b"abc" * 100)
        packed.writestr("d/data", b"abc" * 100)
    found: dict[tuple[Format, str], Any] = {
        ("tar", name): pack(tar.getvalue()) for name, pack in PACKING.items()
    }
    return found | {("zip", "deflated"): zipped.getvalue()}


SAMPLES = _samples()


def test_the_samples_are_unpacked() -> None:
    """What the examples begin with are good archives."""
    for (kind, _), data in SAMPLES.items():
        assert unpacked(data, kind)


@budget(2)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_bytes(sample: tuple[Format, str], data: st.DataObject) -> None:
    """A good archive with bytes changed, cut, repeated, or of another archive."""
    others = SAMPLES["tar", "plain"] if sample[0] == "zip" else SAMPLES["zip", "deflated"]
    unpacked(data.draw(damaged(SAMPLES[sample], others=others)), sample[0])
