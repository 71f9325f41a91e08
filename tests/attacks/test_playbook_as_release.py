"""A playbook as release: a signed target that is no image, ordered as if it were one."""

from __future__ import annotations

from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief
from simulators.threats import take_off, threat
from tuf.api.metadata import Targets


@pytest.mark.parametrize("kind", ["playbook", "Release", None])
def test_playbook_as_release(plant: Plant, kind: Any) -> None:
    """Everything else fits; only its kind does not."""
    engineers = ImageThief(plant, "targets-1", "targets-2")
    with threat(plant, "kind-mismatch", keeps=("director", "image")):
        role = engineers.lists("app/play.yml", b"- run: anything", kind=kind)
        listed = role.targets["app/play.yml"]
        words = {"path": listed.path, "length": listed.length, "hashes": dict(listed.hashes)}
        thief = Thief(plant)
        thief.assign("a", thief.release("2.0.0"), **words)
        engineers.publish(roles={"app": role})
    take_off(plant, "app/play.yml")


def test_the_list_of_approvers_as_release(plant: Plant) -> None:
    """The one target of the shipped layout that is no release is nobody's component."""
    with threat(plant, "component-unknown"):
        top: Targets = ImageThief(plant).read("targets")
        (listed,) = top.targets.values()
        words = {"path": listed.path, "length": listed.length, "hashes": dict(listed.hashes)}
        thief = Thief(plant)
        thief.assign("a", thief.release("2.0.0"), component="workspace", **words)
