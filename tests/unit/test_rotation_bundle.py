"""Changes on their way between machines: signatures merge, and a liar's file is refused whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators.signed import NOW, Signed, replaced

from ota.repositories.repo import Repositories
from ota.stores.directory import DirectoryStore
from signing.changes import bundle
from signing.errors import Busy, Malformed, NotFound, OtaError


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    return Signed(tmp_path / "desk").created()


def elsewhere(place: Signed, folder: Path) -> Repositories:
    """A machine without the store: policies, public keys and own roots were carried there."""
    import shutil  # noqa: PLC0415 - for this machine only

    shutil.copytree(place.folder / "repo-metadata", folder / "repo-metadata")
    return Repositories(folder, place.policy, DirectoryStore(folder / "store"), place.signer)


def edited(place: Signed) -> None:
    """The policies of both repositories name another root keyholder."""
    for file, old, new in (
        ("image.toml", '"root-2"', '"root-4"'),
        ("director.toml", '"director-root-2"', '"director-root-4"'),
    ):
        path = place.folder / "repo-metadata" / file
        path.write_text(path.read_text().replace(old, new))
    place.reload()
    place.repos.change(NOW)


def test_two_machines_without_a_network_sign_one_change(place: Signed, tmp_path: Path) -> None:
    """Exported, signed elsewhere without a store, imported: both signatures count."""
    edited(place)
    place.repos.sign("root-1", NOW)
    away = elsewhere(place, tmp_path / "away")
    away.adopt(place.repos.export())
    shown: list[tuple[str, tuple[str, ...]]] = []
    signed = away.sign("root-3", NOW, show=lambda name, words: shown.append((name, words)))
    change = "root: keyholder root-2 removed, root-4 added; threshold 2 stays"
    assert shown == [("image", (change, "root: signed until 2027-11-23T08:00:00Z"))]
    assert signed[0].missing == {}
    for name in ("director-root-1", "director-root-3"):
        away.sign(name, NOW)
    place.repos.adopt(away.export())
    assert place.repos.publish(NOW) == ["image", "director-root"]


def test_signatures_of_two_copies_merge(place: Signed, tmp_path: Path) -> None:
    """Two people sign copies at the same time; nobody's signature is lost, in either order."""
    edited(place)
    data = place.repos.export()
    copies = []
    for name in ("root-1", "root-3"):
        away = elsewhere(place, tmp_path / name)
        away.adopt(data)
        away.sign(name, NOW)
        copies.append(away.export("image"))
    for copy in (*copies, *copies):
        place.repos.adopt(copy)
    pending = place.repos.pending("image")
    assert pending is not None
    assert pending.missing() == {}
    assert place.repos.publish(NOW, "image") == ["image"]


def test_a_bare_pending_file_is_a_bundle(place: Signed, tmp_path: Path) -> None:
    """The file under state/pending can be carried as it is."""
    edited(place)
    away = elsewhere(place, tmp_path / "away")
    data = (place.folder / "state" / "pending" / "image.json").read_bytes()
    assert set(away.adopt(data)) == {"image"}


def test_another_change_does_not_merge(place: Signed) -> None:
    """A different change of the same repository is refused; the one that waits stays."""
    edited(place)
    data = place.repos.export()
    place.repos.discard("image")
    place.releases.add(place.build("1.0.0"), NOW)
    before = place.repos.pending("image")
    with pytest.raises(Busy) as caught:
        place.repos.adopt(data)
    assert caught.value.code == "another-change"
    assert place.repos.pending("image") == before
    with pytest.raises(Malformed):
        place.repos.adopt(b"{}", replace=True)
    assert place.repos.pending("image") == before
    assert set(place.repos.adopt(data, replace=True)) == {"image", "director"}
    found = place.repos.pending("image")
    assert found is not None
    assert set(found.roles) == {"root"}


def forged_signature(body: dict[str, Any]) -> None:
    role = body["changes"][0]["roles"]["root"]
    role["signatures"] = dict.fromkeys(role["signatures"], "ab" * 64)


def moved_signature(body: dict[str, Any]) -> None:
    role = body["changes"][0]["roles"]["root"]
    role["signatures"] = {"0" * 64: next(iter(role["signatures"].values()))}


def fewer_needs(body: dict[str, Any]) -> None:
    role = body["changes"][0]["roles"]["root"]
    role["needs"] = role["needs"][1:]


def lower_threshold(body: dict[str, Any]) -> None:
    for need in body["changes"][0]["roles"]["root"]["needs"]:
        need["threshold"] = 1


def skipped_version(body: dict[str, Any]) -> None:
    role = body["changes"][0]["roles"]["root"]
    role["signed"]["version"] = 7
    role["signatures"] = {}


def future_base(body: dict[str, Any]) -> None:
    role = body["changes"][0]["roles"]["root"]
    role["signed"]["version"], role["base"] = 8, 7
    role["signatures"] = {}


def first_again(body: dict[str, Any]) -> None:
    role = body["changes"][0]["roles"]["root"]
    role["signed"]["version"], role["base"] = 1, 0
    role["signatures"] = {}


def twice(body: dict[str, Any]) -> None:
    body["changes"].append(body["changes"][0])


def nothing(body: dict[str, Any]) -> None:
    body["changes"] = []


def director_with_targets(body: dict[str, Any]) -> None:
    body["changes"][1]["roles"]["targets"] = body["changes"][0]["roles"]["root"]


def swapped_kind(body: dict[str, Any]) -> None:
    body["changes"][0]["roles"]["app"] = body["changes"][0]["roles"]["root"]


def other_schema(body: dict[str, Any]) -> None:
    body["schema"] = 2


LIES = [
    forged_signature,
    moved_signature,
    fewer_needs,
    lower_threshold,
    skipped_version,
    future_base,
    first_again,
    twice,
    nothing,
    director_with_targets,
    swapped_kind,
    other_schema,
]


@pytest.mark.parametrize("lie", LIES)
def test_a_tampered_bundle_is_refused_whole(
    place: Signed, tmp_path: Path, lie: Callable[[dict[str, Any]], None]
) -> None:
    """One lie anywhere and nothing of the file is taken, not even its honest half."""
    edited(place)
    place.repos.sign("root-1", NOW)
    body = json.loads(place.repos.export())
    lie(body)
    away = elsewhere(place, tmp_path / "away")
    with pytest.raises((Malformed, NotFound)) as caught:
        away.adopt(json.dumps(body).encode())
    assert str(caught.value)
    assert away.waiting() == {}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b"\xff", b'{"schema":1,"changes":[{}]}', b"[" * 10_000, b"null"]
)
def test_a_file_that_is_no_bundle_is_malformed(data: bytes) -> None:
    """Truncated, empty, foreign, too deep."""
    with pytest.raises(Malformed):
        bundle.load(data)


def tampered_before(body: dict[str, Any]) -> None:
    change = body["changes"][0]
    change["before"]["app"] = change["before"]["app"].replace("1.0.0", "9.9.9")


def lost_before(body: dict[str, Any]) -> None:
    body["changes"][0]["before"] = {}


def older_base(body: dict[str, Any]) -> None:
    body["changes"][0]["roles"]["app"]["base"] = 7


@pytest.mark.parametrize("lie", [tampered_before, lost_before, older_base])
def test_what_is_replaced_is_verified(
    place: Signed, tmp_path: Path, lie: Callable[[dict[str, Any]], None]
) -> None:
    """A signer without a store compares with signed bytes, never with the carrier's word."""
    place.released("1.0.0")
    place.releases.add(place.build("2.0.0"), NOW)
    body = json.loads(place.repos.export())
    away = elsewhere(place, tmp_path / "away")
    words = away.review(bundle.load(json.dumps(body).encode())[0])
    assert words[:-1] == ("app: signed until 2027-05-22T08:00:00Z",)
    assert "app: lists app/app-2.0.0.bin" in words[-1]
    lie(body)
    with pytest.raises(OtaError):
        away.adopt(json.dumps(body).encode())
    assert away.waiting() == {}


def test_an_old_copy_of_the_roots_is_told_to_catch_up(place: Signed, tmp_path: Path) -> None:
    """Own roots that are older than the change: nothing is signed blindly."""
    away = elsewhere(place, tmp_path / "away")
    edited(place)
    for name in ("root-1", "root-3"):
        place.repos.sign(name, NOW)
    place.repos.publish(NOW, "image")
    path = place.folder / "repo-metadata" / "image.toml"
    path.write_text(replaced('"root-4"', '"root-5"')(path.read_text()))
    place.reload()
    place.repos.change(NOW, "image")
    with pytest.raises(NotFound) as caught:
        away.adopt(place.repos.export("image"))
    assert "copy repo-metadata/roots/image/" in caught.value.remedy
    assert away.waiting() == {}


def test_control_characters_of_a_hostile_release_are_not_printed(place: Signed) -> None:
    """What a signer sees is text; a terminal is not driven by signed bytes."""
    place.releases.add(place.build("1.0.0"), NOW)
    path = place.folder / "state" / "pending" / "image.json"
    path.write_text(path.read_text().replace('"version": "1.0.0"', '"version": "\\u001b[2J"'))
    pending = place.repos.pending("image")
    assert pending is not None
    assert "\x1b" not in "".join(place.repos.review(pending))
