"""The catalogue: what planning believes is verified, and read anew when it changed."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.signed import NOW, Signed

from ota.errors import NotFound, Refusal
from ota.repositories.catalogue import StoreCatalogue
from signing import layout
from signing.approval import APPROVERS_PATH, Approvers
from signing.changes import approving
from signing.enrolment import key_to_dict
from signing.policy import Policy


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    return Signed(tmp_path).created()


def catalogue(place: Signed, clock: Clock | None = None) -> StoreCatalogue:
    return StoreCatalogue(
        place.policy, place.store, lambda: place.repos.anchor("image"), clock or Clock()
    )


def test_it_follows_what_is_published(place: Signed) -> None:
    """Releases, snapshot version and approvers, after each publish."""
    found = catalogue(place)
    assert (found.releases(), found.snapshot_version()) == ({}, 1)
    release = place.released("1.0.0")
    assert (found.releases(), found.snapshot_version()) == ({release.path: release}, 2)
    keys = [k.keyid for k in found.approvers().approver_keys()]
    assert keys == [place.keys["approver"].public_key.keyid]
    authors = [k.keyid for k in found.approvers().author_keys()]
    assert authors == [place.keys["author"].public_key.keyid]


def test_it_reads_once_while_nothing_changes(place: Signed) -> None:
    """One look at the timestamp is enough while that is the same."""
    place.released("1.0.0")
    asked: list[str] = []
    real = place.store.get

    class Counting:
        def get(self, name: str, limit: int) -> bytes | None:
            asked.append(name)
            return real(name, limit)

    found = StoreCatalogue(
        place.policy,
        Counting(),  # type: ignore[arg-type]  # reading is all that a catalogue does
        lambda: place.repos.anchor("image"),
        Clock(),
    )
    found.releases()
    asked.clear()
    found.releases()
    found.approvers()
    assert set(asked) == {"image/metadata/timestamp.json"}


def test_releases_of_an_expired_role_are_not_offered(place: Signed) -> None:
    """Devices would not install them; an expired timestamp alone hides nothing from operators."""
    clock = Clock()
    found = catalogue(place, clock)
    place.released("1.0.0")
    clock.now = NOW + timedelta(days=31)
    assert len(found.releases()) == 1
    clock.now = NOW + timedelta(days=180)
    assert found.releases() == {}


def test_before_the_first_publish_it_says_what_to_do(tmp_path: Path) -> None:
    """No repository, no plan."""
    place = Signed(tmp_path)
    with pytest.raises(NotFound) as caught:
        catalogue(place).releases()
    assert "ota repo create" in caught.value.remedy


@pytest.mark.parametrize("how", ["gone", "flipped", "longer"])
def test_approvers_are_believed_by_their_hash_only(place: Signed, how: str) -> None:
    """Whoever writes to the store can not make themselves an approver."""
    name = next(place.store.list("image/targets/workspace/"))
    path = place.folder / "store" / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            data.replace(b'"threshold":1', b'"threshold":0') if how == "flipped" else data + b" "
        )
    with pytest.raises(Refusal):
        catalogue(place).approvers()


@pytest.mark.parametrize("key", [{}, {"keyid": []}, {"keyid": "0" * 64, "keytype": "ed25519"}])
def test_approvers_that_are_no_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: dict[str, Any]
) -> None:
    """What keyholders signed unseen is refused by name, for every plan, and not half-believed."""
    monkeypatch.setattr(approving, "words", lambda *_: [])
    signed = Approvers(schema=1, threshold=1, authors=(), approvers=(key,))
    monkeypatch.setattr(Policy, "approvers", lambda _policy: signed)
    place = Signed(tmp_path).created()
    with pytest.raises(Refusal) as caught:
        catalogue(place).approvers()
    assert caught.value.code == "release-malformed"


def test_a_tampered_repository_offers_nothing(place: Signed) -> None:
    """A flipped bit in the component's role: refused, not an empty catalogue."""
    place.released("1.0.0")
    path = place.folder / "store" / layout.image_metadata("1.app.json")
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(Refusal):
        catalogue(place).releases()
    assert APPROVERS_PATH.startswith("workspace/")


def test_keys_of_every_scheme_hold_every_role(tmp_path: Path) -> None:
    """PEM keys with line breaks and notes of several lines go the whole road."""
    place = Signed(tmp_path)
    for name, signer in {
        "approver": CryptoSigner.generate_ecdsa(),
        "root-1": CryptoSigner.generate_rsa(),
        "targets-1": CryptoSigner.generate_ecdsa(),
        "image-online": CryptoSigner.generate_ecdsa(),
        "director-online": CryptoSigner.generate_ecdsa(),
    }.items():
        place.keys[name] = signer
        body = json.dumps(key_to_dict(signer.public_key)).encode()
        (tmp_path / "repo-metadata" / "keyholders" / f"{name}.json").write_bytes(body)
    place.created()
    release = place.released("1.0.0", notes="first line\nsecond \u00e4 line\t")
    assert catalogue(place).releases() == {release.path: release}
    keys = catalogue(place).approvers().approver_keys()
    assert keys == [place.keys["approver"].public_key]
    assert place.desk.register("gw-1", NOW)
    assert place.desk.assignments("gw-1") == {}
