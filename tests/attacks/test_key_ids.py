"""Key ids, forged or repeated: an id is only a name, and proves nothing about the key behind it."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from securesystemslib.signer import CryptoSigner, Key
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, put, read, root_folder
from simulators.threats import ROOTS, ordered, threat
from tuf.api.metadata import Metadata, Root, Targets

from signing import strict


def test_another_keys_signature_under_the_right_id(plant: Plant) -> None:
    """The id of the director's online key, and a signature that is not its."""
    with threat(plant, "signature"):
        thief = Thief(plant)
        honest = thief._signer.public_key.keyid
        stranger = CryptoSigner.generate_ed25519()
        stranger.public_key.keyid = honest
        thief._signer = stranger
        thief.assign("a", thief.release("2.0.0"))


def under(key: Key, keyid: str, *, loud: bool = False) -> Key:
    """The same key under another id; ``loud``: its bytes written otherwise, too."""
    body = key.to_dict()
    public = body["keyval"]["public"]
    return Key.from_dict(keyid, body | {"keyval": {"public": public.upper() if loud else public}})


@pytest.mark.parametrize("repository", ROOTS)
def test_an_id_repeated_in_a_root(plant: Plant, repository: str) -> None:
    """A root that counts one key id twice is none, though enough keyholders signed it."""
    names = ROOTS[repository]
    with threat(plant, "metadata-malformed"):
        folder = root_folder(plant, repository)
        root: Root = read(folder / "1.root.json")
        root.version += 1
        root.roles["timestamp"].keyids *= 2
        metadata = Metadata(root)
        for name in names:
            metadata.sign(plant.wiring.keyring.signer(name), append=True)
        put(folder / "2.root.json", metadata.to_bytes())


def _two_ids(targets: Targets, role: str, keyid: str, *, loud: bool) -> str:
    """One keyholder under two ids, and nobody else, in the delegation of a role; the new id."""
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    forged = strict.digest(keyid.encode())
    targets.delegations.keys[forged] = under(targets.delegations.keys[keyid], forged, loud=loud)
    targets.delegations.roles[role].keyids = [keyid, forged]
    return forged


def _also_as(keyid: str, forged: str) -> Callable[[bytes], bytes]:
    """The signature of one id again under another."""

    def tamper(data: bytes) -> bytes:
        body = json.loads(data)
        (signature,) = [s for s in body["signatures"] if s["keyid"] == keyid]
        body["signatures"] = [signature, signature | {"keyid": forged}]
        return json.dumps(body).encode()

    return tamper


@pytest.mark.parametrize("loud", [False, True], ids=["as it is", "in capitals"])
def test_one_key_under_two_ids(plant: Plant, loud: bool) -> None:
    """Two ids, two valid signatures, one key: that is one of the two that a role needs."""
    ordered(plant)
    with threat(plant, "signature"):
        keyid = plant.wiring.keyring.signer("targets-1").public_key.keyid
        engineers = ImageThief(plant, "targets-1", "targets-2")
        targets = engineers.read("targets")
        forged = _two_ids(targets, "app", keyid, loud=loud)
        engineers.publish(roles={"targets": targets})
        one = ImageThief(plant, "targets-1")
        one.publish(roles={"app": one.read("app")}, tamper=_also_as(keyid, forged))
