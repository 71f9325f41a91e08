"""A threshold that is short by duplicates: one signature shown as if it were two."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Tamper
from simulators.threats import ordered, threat

Signatures = list[dict[str, Any]]


def repeated(change: Callable[[Signatures], Signatures]) -> Tamper:
    """The list of signatures as one wants it."""

    def tamper(data: bytes) -> bytes:
        body = json.loads(data)
        body["signatures"] = change(body["signatures"])
        return json.dumps(body).encode()

    return tamper


@pytest.mark.parametrize("role", ["targets", "app"])
def test_one_signature_twice(plant: Plant, role: str) -> None:
    """The same id again makes the file none."""
    ordered(plant)
    with threat(plant, "metadata-malformed"):
        thief = ImageThief(plant, "targets-1")
        thief.publish(roles={role: thief.read(role)}, tamper=repeated(lambda s: s * 2))


@pytest.mark.parametrize("role", ["targets", "app"])
def test_one_signature_in_the_name_of_another(plant: Plant, role: str) -> None:
    """Under the id of a second keyholder it does not verify."""
    ordered(plant)
    other = plant.wiring.keyring.signer("targets-2").public_key.keyid
    with threat(plant, "signature"):
        thief = ImageThief(plant, "targets-1")
        as_two = repeated(lambda s: [*s, s[0] | {"keyid": other}])
        thief.publish(roles={role: thief.read(role)}, tamper=as_two)


@pytest.mark.parametrize("strangers", [[], ["root-1", "root-2", "image-online", "author"]])
def test_one_keyholder_among_strangers(plant: Plant, strangers: list[str]) -> None:
    """Keys of other roles add nothing, however many."""
    ordered(plant)
    with threat(plant, "signature"):
        thief = ImageThief(plant, "targets-1", *strangers)
        thief.publish(roles={"app": thief.lists("app/evil.bin", b"evil")})
