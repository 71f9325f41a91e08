"""A change that waits: whose signatures count, and files that are not changes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner, Signature
from simulators.signed import NOW, Signed

from ota.repositories import repostatus
from signing.changes import ceremony
from signing.changes.ceremony import Pending
from signing.errors import Malformed, NeedsHuman, NotFound, NotPermitted, Refusal


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    place = Signed(tmp_path)
    place.repos.create(NOW)
    return place


def pending(place: Signed, name: str = "image") -> Pending:
    found = ceremony.load(place.folder / "state" / "pending" / f"{name}.json")
    assert found is not None
    return found


def lacking(change: Pending) -> dict[str, int]:
    return {name: lack.have for name, lack in change.missing().items()}


def test_signatures_of_distinct_keyholders_reach_the_threshold(place: Signed) -> None:
    """Two of three sign each role; then nothing is missing and the bytes can be had."""
    assert lacking(pending(place)) == {"root": 0, "targets": 0}
    for name in ("root-1", "targets-2", "targets-1"):
        place.repos.sign(name, NOW)
    assert lacking(pending(place)) == {"root": 1}
    place.repos.sign("root-3", NOW)
    assert set(pending(place).finished()) == {"root", "targets"}


def test_a_second_signature_of_one_key_does_not_count(place: Signed) -> None:
    """Signing twice changes nothing, not even the bytes of the signature."""
    place.repos.sign("root-1", NOW)
    once = pending(place)
    assert place.repos.sign("root-1", NOW)[0].roles == ()
    assert pending(place) == once
    assert lacking(once)["root"] == 1
    with pytest.raises(NeedsHuman):
        once.finished()


def test_a_key_outside_of_the_waiting_roles_is_refused(place: Signed) -> None:
    """Neither a stranger, nor a keyholder of another role, nor the online key may sign."""
    before = pending(place)
    with pytest.raises(NotPermitted) as caught:
        ceremony.add_signature(before, CryptoSigner.generate_ed25519())
    assert caught.value.code == "key-not-in-role"
    for name in ("image-online", "approver"):
        with pytest.raises(NotPermitted) as caught:
            place.repos.sign(name, NOW)
        assert caught.value.code == "key-not-in-role"
    assert pending(place) == before


def test_a_signer_that_signs_something_else_adds_nothing(place: Signed) -> None:
    """A key source is not believed: its signature is verified before it is kept."""

    class Other(CryptoSigner):
        def sign(self, payload: bytes) -> Signature:
            return super().sign(payload + b" ")

    found = pending(place)
    honest = place.keys["root-1"]
    assert isinstance(honest, CryptoSigner)
    with pytest.raises(NotPermitted) as caught:
        ceremony.add_signature(found, Other(honest._private_key, honest.public_key))
    assert caught.value.code == "bad-signature"
    assert pending(place) == found


def test_signing_when_nothing_waits_says_so(place: Signed) -> None:
    """After discarding both changes there is nothing to sign or to publish."""
    assert place.repos.discard("image")
    assert place.repos.discard("director")
    assert not place.repos.discard("image")
    with pytest.raises(NotFound):
        place.repos.sign("root-1", NOW)
    with pytest.raises(NotFound):
        place.repos.publish(NOW)


def edited(place: Signed, **changes: object) -> Pending:
    path = place.folder / "state" / "pending" / "image.json"
    body = json.loads(path.read_text())
    body["roles"]["root"] |= changes
    path.write_text(json.dumps(body))
    return pending(place)


def test_forged_signatures_in_the_file_are_not_counted(place: Signed) -> None:
    """Whoever edits the file can not add signatures: they are verified when it is read."""
    keyids = [place.keys[f"root-{i}"].public_key.keyid for i in (1, 2, 3)]
    change = edited(place, signatures=dict.fromkeys(keyids, "ab" * 64))
    assert lacking(change)["root"] == 0
    assert lacking(edited(place, signatures=dict.fromkeys(keyids, "not hex")))["root"] == 0


def test_a_forged_signature_does_not_keep_its_owner_from_signing(place: Signed) -> None:
    """A wrong signature under one's key is replaced, not taken for one's own."""
    keyid = place.keys["root-1"].public_key.keyid
    edited(place, signatures={keyid: "ab" * 64})
    assert place.repos.sign("root-1", NOW)[0].roles == ("root",)
    assert lacking(pending(place))["root"] == 1


def test_keys_put_into_the_file_do_not_publish(place: Signed) -> None:
    """A stranger who writes his own keys into ``needs`` signs, and the proof refuses it."""
    strangers = [CryptoSigner.generate_ed25519() for _ in range(2)]
    change = pending(place)
    needs = ceremony.Needs.of([s.public_key for s in strangers], 2)
    roles = {n: msgspec.structs.replace(r, needs=(needs,)) for n, r in change.roles.items()}
    change = msgspec.structs.replace(change, roles=roles)
    for stranger in strangers:
        change, _ = ceremony.add_signature(change, stranger)
    ceremony.save(place.folder / "state" / "pending" / "image.json", change)
    for name in ("director-root-1", "director-root-2"):
        place.repos.sign(name, NOW)
    with pytest.raises(Exception, match="root") as caught:
        place.repos.publish(NOW)
    assert getattr(caught.value, "code", "") == "signature"
    assert list(place.store.list("")) == []
    assert place.repos.anchor("image") is None


def test_a_first_root_of_other_keyholders_is_not_published(place: Signed, tmp_path: Path) -> None:
    """A whole pending change exchanged for a stranger's, signed by him: the policy decides."""
    other = Signed(tmp_path / "other")
    other.repos.create(NOW)
    for name in ("root-1", "root-2", "targets-1", "targets-2"):
        other.repos.sign(name, NOW)
    ceremony.save(place.folder / "state" / "pending" / "image.json", pending(other))
    for name in ("director-root-1", "director-root-2"):
        place.repos.sign(name, NOW)
    with pytest.raises(Refusal, match="policy's keyholders"):
        place.repos.publish(NOW)
    assert list(place.store.list("")) == []
    assert place.repos.anchors("image") == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"schema": 2}',
        b'{"schema":1,"repository":"other","created":"","roles":{},"summary":[]}',
        b'{"schema":1,"repository":"image","created":"","roles":{"root":{}},"summary":[]}',
        b'{"schema":1,"schema":1}',
        b"[" * 10_000,
    ],
)
def test_a_file_that_is_no_change_is_named(tmp_path: Path, data: bytes) -> None:
    """Malformed, duplicate keys, too deep: an error with the file's name and a way out."""
    path = tmp_path / "image.json"
    path.write_bytes(data)
    with pytest.raises(Malformed, match=r"image\.json") as caught:
        ceremony.load(path)
    assert "discard" in caught.value.remedy


def test_creating_twice_is_refused(place: Signed) -> None:
    """A second create leaves the waiting change and its signatures alone."""
    place.repos.sign("root-1", NOW)
    before = pending(place)
    with pytest.raises(NotPermitted) as caught:
        place.repos.create(NOW)
    assert caught.value.code == "exists"
    assert pending(place) == before


@pytest.mark.parametrize(
    ("role", "at", "value"),
    [
        ("root", ("roles", "targets", "keyids", 0), 1),
        ("root", ("keys",), []),
        ("targets", ("targets", "workspace/approvers.json", "hashes", "sha256"), 7),
        ("targets", ("targets", "workspace/approvers.json", "length"), -1),
        ("targets", ("expires",), None),
    ],
)
def test_types_within_the_metadata_are_checked(
    place: Signed, role: str, at: tuple[str | int, ...], value: object
) -> None:
    """python-tuf takes a key id that is a number; a reviewer gets an error that says where."""
    path = place.folder / "state" / "pending" / "image.json"
    body = json.loads(path.read_text())
    holder = body["roles"][role]["signed"]
    for step in at[:-1]:
        holder = holder[step]
    holder[at[-1]] = value
    path.write_text(json.dumps(body))
    with pytest.raises(Malformed, match=role) as caught:
        repostatus.pending(place.repos)
    assert str(path) in str(caught.value)


# -- what comes with a change ----------------------------------------------------------------------
def smuggled(change: dict[str, Any]) -> None:
    change["uploads"].append(
        {"name": "director/devices/gw-1/timestamp.json", "source": "/etc/hostname"}
        | {"sha256": "0" * 64, "length": 9}
    )


def exchanged(change: dict[str, Any]) -> None:
    change["uploads"][0]["sha256"] = "0" * 64


def lost(change: dict[str, Any]) -> None:
    change["uploads"].clear()


def extra_file(change: dict[str, Any]) -> None:
    change["files"]["image/metadata/2.root.json"] = "{}"


@pytest.mark.parametrize("lie", [smuggled, exchanged, lost, extra_file])
def test_bytes_that_the_signed_roles_do_not_list_are_not_published(
    tmp_path: Path, lie: Callable[[dict[str, Any]], None]
) -> None:
    """The file's words about uploads are not signed: each is compared with a signed target."""
    place = Signed(tmp_path).created()
    place.releases.add(place.build("1.0.0"), NOW)
    place.signed()
    before = list(place.store.list(""))
    path = place.folder / "state" / "pending" / "image.json"
    body = json.loads(path.read_text())
    lie(body)
    path.write_text(json.dumps(body))
    with pytest.raises(Malformed, match="pending change"):
        place.releases.publish(NOW)
    assert list(place.store.list("")) == before


def test_a_role_with_a_foreign_release_is_not_published(tmp_path: Path) -> None:
    """Signed by its keyholders, and still refused: a component lists its own releases only."""
    place = Signed(tmp_path).created()
    place.releases.add(place.build("1.0.0"), NOW)
    path = place.folder / "state" / "pending" / "image.json"
    body = json.loads(path.read_text())
    targets = body["roles"]["app"]["signed"]["targets"]
    targets["os/app-1.0.0.bin"] = targets.pop("app/app-1.0.0.bin")
    path.write_text(json.dumps(body))
    place.signed()
    before = list(place.store.list(""))
    with pytest.raises(Refusal) as caught:
        place.releases.publish(NOW)
    assert caught.value.code in {"component-mismatch", "release-malformed"}
    assert list(place.store.list("")) == before
