"""repo-metadata: policies that can be signed by, or an error that names file and key."""

from __future__ import annotations

import json
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.identities import Identity
from simulators.mutations import budget, damaged, dumps, mutated, toml
from simulators.signed import POLICIES

from ota.errors import Malformed
from signing import policy
from signing.enrolment import key_to_dict
from signing.policy import Policy

FILES = ("image.toml", "director.toml", "rollout.toml")
SHIPPED = {name: tomllib.loads((POLICIES / name).read_text()) for name in FILES}
SHIPPED["image.toml"]["components"] = {
    "mcu": {"keyholders": ["mcu-1", "mcu-2"], "threshold": 2, "expires": "30d"}
}
KEY = key_to_dict(Identity("keyholder").signer.public_key)


def load(name: str, data: bytes) -> Policy | None:
    """All three files, one of them changed; None when it was refused by name."""
    with tempfile.TemporaryDirectory() as folder:
        for other in FILES:
            shutil.copy(POLICIES / other, folder)
        (Path(folder) / name).write_bytes(data)
        try:
            found = policy.load(Path(folder))
        except Malformed as error:
            words = f"{error}"
            assert name in words or "director.toml" in words, words
            assert "\n" not in words.strip()
            return None
        sound(found)
    return found


def sound(found: Policy) -> None:
    """Thresholds that can be reached, lives that are some, no keyholder of both repositories."""
    director = [found.director.root, found.director.online]
    for role in [item for _, item in found.image.roles()] + director:
        assert 1 <= role.threshold <= len(set(role.keyholders))
        assert role.expires.total_seconds() >= 60
    assert found.director.open <= found.director.idle < found.director.listed
    both = {k for _, r in found.image.roles() for k in r.keyholders}
    assert not both & {k for r in director for k in r.keyholders}
    assert found.holders()


def test_the_shipped_ones_are_read() -> None:
    """What the examples begin with is complete."""
    for name in FILES:
        assert load(name, toml(SHIPPED[name])) is not None


@budget(3)
@given(st.sampled_from(FILES), st.data())
def test_mutated(name: str, data: st.DataObject) -> None:
    """Keys and values of every kind, in every place of each file."""
    load(name, toml(data.draw(mutated(SHIPPED[name]))))


@budget(1)
@given(st.sampled_from(FILES), st.data())
def test_damaged_bytes(name: str, data: st.DataObject) -> None:
    """A file that was cut, edited by accident, or is another one."""
    others = (POLICIES / "image.toml").read_bytes()
    load(name, data.draw(damaged((POLICIES / name).read_bytes(), others=others)))


@budget(1.5)
@given(mutated(KEY) | st.just(KEY), st.booleans())
def test_a_keyholder(key: Any, nested: bool) -> None:
    """A public key that somebody sent: the very key of its id, or an error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = policy.key_path(Path(folder), "ana")
        path.parent.mkdir()
        path.write_bytes(dumps([key] if nested else key))
        try:
            found = policy.read_key(Path(folder), "ana")
        except Malformed as error:
            assert str(path) in str(error)
        else:
            assert key_to_dict(found)["keyid"] == json.loads(dumps(key))["keyid"]
        with pytest.raises(Malformed):
            policy.read_key(Path(folder), "../ana")
