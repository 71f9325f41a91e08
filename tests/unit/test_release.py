"""Releases: described from their bytes, listed once, found, and taken off only when unused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators import images
from simulators.signed import HARDWARE, NOW, Signed
from tuf.api.metadata import TargetFile

from ota.errors import Malformed, NotFound, NotPermitted, OtaError
from ota.repositories import imagefile
from ota.repositories.release import Build, Releases, default_path
from signing import strict
from signing.release import MAX_COUNTER, Release


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    return Signed(tmp_path).created()


# -- what a file is ------------------------------------------------------------------------------
def tar(data: bytes = b"hello") -> bytes:
    return images.tar(data, "bin/app")


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("app.py", "print()")
    return out.getvalue()


NOISE = os.urandom(2_500_000)
CONTENTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "tar": (tar, "tar"),
    "tar.gz": (lambda: gzip.compress(tar()), "tar"),
    "tar.bz2": (lambda: bz2.compress(tar()), "tar"),
    "tar.bz2, a large first block": (lambda: bz2.compress(tar(NOISE)), "tar"),
    "tar.xz": (lambda: lzma.compress(tar()), "tar"),
    "zip": (zipped, "zip"),
    "a kernel that is gzip but no tar": (lambda: gzip.compress(b"\x00" * 9000), "file"),
    "xz but no tar": (lambda: lzma.compress(NOISE), "file"),
    "zeros, which tarfile takes for an empty tar": (lambda: b"\x00" * 10240, "file"),
    "a firmware that ends in a zip": (lambda: b"\x7fELF" + b"\x01" * 999 + zipped(), "file"),
    "a zip cut short": (lambda: zipped()[:40], "file"),
    "gzip cut short": (lambda: gzip.compress(tar())[:12], "file"),
    "broken gzip": (lambda: b"\x1f\x8b" + b"\xff" * 600, "file"),
    "broken bzip2": (lambda: b"BZh9" + b"\xff" * 600, "file"),
    "broken xz": (lambda: b"\xfd7zXZ\x00" + b"\xff" * 600, "file"),
    "one byte": (lambda: b"x", "file"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_format_is_judged_by_content(tmp_path: Path, name: str) -> None:
    """Whatever the file is called."""
    make, expected = CONTENTS[name]
    path = tmp_path / "image.zip"
    data = make()
    path.write_bytes(data)
    found = imagefile.examine(path)
    assert found == imagefile.Examined(len(data), strict.digest(data), expected)  # type: ignore[arg-type]  # a literal


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    """(done, in all), rising."""
    path = tmp_path / "x"
    path.write_bytes(NOISE)
    seen: list[tuple[int, int]] = []
    imagefile.examine(path, lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (len(NOISE), len(NOISE))


@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "device", "fifo", "dangling"])
def test_what_is_no_image_is_a_named_error(place: Signed, tmp_path: Path, kind: str) -> None:
    """Missing, a folder, empty, a device, a pipe: named, and nothing waits."""
    path = tmp_path / "image"
    {
        "missing": lambda: None,
        "folder": path.mkdir,
        "empty": path.touch,
        "device": lambda: path.symlink_to("/dev/zero"),
        "fifo": lambda: os.mkfifo(path),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
    }[kind]()
    with pytest.raises(OtaError, match=str(path)) as caught:
        place.releases.add(Build(path, "app", "1", (HARDWARE,)), NOW)
    assert caught.value.exit_code == 2
    assert place.repos.pending("image") is None


# -- describe and add ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("file", "version", "expected"),
    [
        ("app.tar.gz", "1.0.0", "app/app-1.0.0.tar.gz"),
        ("u-boot.bin", "2024.01", "app/app-2024.01.bin"),
        ("firmware", "1", "app/app-1.bin"),
        (".hidden", "1", "app/app-1.bin"),
        ("x-1.2-py3-none-any.whl", "1.2", "app/app-1.2.whl"),
        ("name.with space", "1", "app/app-1.bin"),
    ],
)
def test_the_path_has_a_default(file: str, version: str, expected: str) -> None:
    """Component, version and the file's own extension."""
    assert default_path(Build(Path(file), "app", version, (HARDWARE,))) == expected


def test_describing_writes_nothing(place: Signed) -> None:
    """A dry run shows the release that would be listed."""
    shown = place.releases.describe(place.build(), NOW)
    assert place.repos.pending("image") is None
    assert place.releases.add(place.build(), NOW) == shown


MISTAKES: dict[str, dict[str, Any]] = {
    "component": {"component": "a/b"},
    "empty component": {"component": ""},
    "path in another component": {"path": "os/x.bin"},
    "path of three segments": {"path": "app/a/b"},
    "path upwards": {"path": "app/../x"},
    "path of one segment": {"path": "x.bin"},
    "absolute path": {"path": "/app/x"},
    "hidden file": {"path": "app/.x"},
    "notes": {"notes": "x" * 4097},
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_description_that_breaks_a_rule_is_refused(place: Signed, name: str) -> None:
    """Malformed components, paths and notes: exit 2, nothing waits."""
    with pytest.raises(Malformed):
        place.releases.add(place.build(**MISTAKES[name]), NOW)
    assert place.repos.pending("image") is None


@pytest.mark.parametrize("version", ["", "a b", "1/2", "x" * 65, "-1"])
def test_a_version_is_a_display_version(place: Signed, version: str) -> None:
    """A version never becomes part of a path unchecked."""
    path = place.build("1").file
    with pytest.raises(Malformed):
        place.releases.add(Build(path, "app", version, (HARDWARE,)), NOW)
    assert place.repos.pending("image") is None


@pytest.mark.parametrize("ids", [(), ("",), ("a b",), ("ok", "../x")])
def test_hardware_ids_are_never_guessed(place: Signed, ids: tuple[str, ...]) -> None:
    """At least one, each an identifier."""
    with pytest.raises(Malformed, match="hardware_ids"):
        place.releases.add(Build(place.build().file, "app", "1", ids), NOW)
    assert place.repos.pending("image") is None


# -- list, show, resolve -------------------------------------------------------------------------
def test_releases_are_listed_with_where_they_stand(place: Signed) -> None:
    """Published, waiting, and to be yanked, side by side; expired when the role has expired."""
    old = place.released("1.0.0")
    place.releases.add(place.build("2.0.0"), NOW)
    place.releases.yank(old.path, NOW)
    found = {i.release.version: i.state for i in place.releases.listing(NOW)}
    assert found == {"1.0.0": "to be yanked", "2.0.0": "waiting"}
    place.repos.discard("image")
    found = {i.release.version: i.state for i in place.releases.listing(NOW)}
    assert found == {"1.0.0": "published"}
    later = place.releases.listing(NOW + timedelta(days=181))
    assert [i.state for i in later] == ["expired"]


def test_a_version_names_one_release_per_hardware(place: Signed) -> None:
    """``app@1.0.0`` may be several; a path is one; what only waits is not resolved."""
    first = place.released("1.0.0")
    other = Build(
        place.build("1.0.0-c", b"rev c").file, "app", "1.0.0", ("gw-rev-c",), path="app/c.bin"
    )
    place.releases.add(other, NOW)
    assert place.releases.resolve("app@1.0.0", NOW) == [first]
    with pytest.raises(NotFound):
        place.releases.resolve("app@9", NOW)
    place.signed()
    place.releases.publish(NOW)
    assert [r.path for r in place.releases.resolve("app@1.0.0", NOW)] == [first.path, "app/c.bin"]
    assert [r.path for r in place.releases.resolve("app/c.bin", NOW)] == ["app/c.bin"]
    assert [i.state for i in place.releases.show("app/c.bin", NOW)] == ["published"]


# -- yank ----------------------------------------------------------------------------------------
def test_a_release_in_use_is_not_yanked(place: Signed) -> None:
    """Rule 9: while a director or the way back of an open rollout names it; reasons are told."""
    release = place.released("1.0.0")
    asked: list[str] = []

    def in_use(paths: Collection[str]) -> dict[str, list[str]]:
        asked.extend(paths)
        return {path: ["the director assigns it to gw-1"] for path in paths}

    with pytest.raises(NotPermitted, match="gw-1") as caught:
        Releases(place.repos, in_use).yank(release.path, NOW)
    assert caught.value.code == "in-use"
    assert caught.value.exit_code == 4
    assert asked == [release.path]
    assert place.repos.pending("image") is None


def test_several_are_yanked_together_or_none(place: Signed) -> None:
    """One in use keeps all of them listed; then one change takes all of them off."""
    paths = [place.released(version).path for version in ("1.0.0", "2.0.0", "3.0.0")]
    used = {paths[1]: ["the director assigns it to gw-1"]}

    def in_use(asked: Collection[str]) -> dict[str, list[str]]:
        return {path: used.get(path, []) for path in asked}

    releases = Releases(place.repos, in_use)
    with pytest.raises(NotPermitted, match="gw-1"):
        releases.yank_all(paths, NOW)
    assert place.repos.pending("image") is None
    used.clear()
    assert releases.yank_all(paths, NOW) == {path: [] for path in paths}
    place.signed()
    place.repos.publish(NOW)
    assert releases.listing(NOW) == []
    assert releases.yank_all([], NOW) == {}


def test_a_release_that_only_waits_can_be_taken_back(place: Signed) -> None:
    """Yanking it from the waiting change forgets its file, too."""
    release = place.releases.add(place.build("1.0.0"), NOW)
    place.releases.yank(release.path, NOW)
    pending = place.repos.pending("image")
    assert pending is not None
    assert pending.uploads == ()
    assert place.releases.listing(NOW) == []


# -- the signed description ----------------------------------------------------------------------
GOOD: dict[str, Any] = {
    "path": "app/x.bin",
    "component": "app",
    "version": "1",
    "hardware_ids": (HARDWARE,),
    "release_counter": 1,
    "format": "file",
    "length": 1,
    "hashes": {"sha256": "0" * 64},
}


def test_a_description_survives_its_target() -> None:
    """All fields come back; unknown ones, of later versions, are allowed and left out."""
    release = Release(**GOOD, notes="línea 1\nline 2", security_fix=True)
    target = release.to_target()
    target.unrecognized_fields["custom"]["sbom"] = {"later": 1}
    again = TargetFile.from_dict(target.to_dict(), release.path)
    assert Release.from_target(again) == release


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("release_counter", -1),
        ("release_counter", MAX_COUNTER + 1),
        ("length", 0),
        ("length", 2**50 + 1),
        ("hashes", {}),
        ("hashes", {"sha256": "0" * 63}),
        ("hashes", {"sha256": "A" * 64}),
        ("hashes", {"sha512": "0" * 128}),
    ],
)
def test_numbers_out_of_range_are_malformed(field: str, value: object) -> None:
    """A release can not be built with them."""
    with pytest.raises(Malformed):
        Release(**(GOOD | {field: value}))


@pytest.mark.parametrize(
    "custom",
    [
        None,
        [],
        {},
        {"release_counter": "1"},
        {"release_counter": True},
        {"release_counter": 1.0},
        {"hardware_ids": []},
        {"hardware_ids": HARDWARE},
        {"format": "rar"},
        {"component": "os"},
        {"security_fix": "no"},
    ],
)
def test_a_target_without_a_whole_description_is_malformed(custom: Any) -> None:
    """Missing fields and wrong types are refused by name of the path."""
    target = Release(**GOOD).to_target()
    if isinstance(custom, dict) and custom:
        target.unrecognized_fields["custom"] |= custom
    else:
        target.unrecognized_fields["custom"] = custom
    with pytest.raises(Malformed, match=r"app/x\.bin|hardware_ids"):
        Release.from_target(target)
