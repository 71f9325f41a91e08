"""Releases in top-level targets, which a keyholder put there by mistake: devices take none of them.

Clients ask top-level targets first, so what stands there hides the rightful listing below it. It is
named, stops nothing else, and is taken off by those who sign top-level targets.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulators.plant import Plant
from simulators.thief import ImageThief
from simulators.threats import ENGINEERS, TWO, honest, ordered, take_off
from tuf.api.metadata import TargetFile, Targets

from ota.cli.app import run
from ota.errors import NeedsHuman, NotFound, OtaError, Refusal
from signing.approval import APPROVERS_PATH
from signing.changes.ceremony import Pending
from signing.image.repository import Image

PATH = "app/app-2.0.0.bin"


def lift(plant: Plant, *paths: str) -> dict[str, TargetFile]:
    """The listings of these releases stand in top-level targets as well."""
    thief = ImageThief(plant, *ENGINEERS)
    listed = thief.read("app").targets
    top: Targets = thief.read("targets")
    top.targets |= {path: listed[path] for path in paths}
    thief.publish(roles={"targets": top})
    return {path: listed[path] for path in paths}


def versions(plant: Plant) -> set[str]:
    """What can be planned: releases as the catalogue has them."""
    return {r.version for r in plant.wiring.catalogue.releases().values() if r.component == "app"}


def test_named_and_stops_nothing_else(plant: Plant) -> None:
    """The hidden release can not be planned; others are planned, published, refreshed, installed."""
    lift(plant, PATH, "app/app-3.0.0.bin")
    (finding,) = [f for f in plant.wiring.verify() if f.code]
    assert (finding.name, finding.code) == ("image targets", "component-mismatch")
    assert PATH in finding.message
    assert "app/app-3.0.0.bin" in finding.message
    assert not versions(plant) & {"2.0.0", "3.0.0"}
    with pytest.raises(OtaError):
        plant.plan("two", "2.0.0")
    plant.publish(plant.build("4.0.0"))
    assert plant.wiring.refresh(every=True).problems == {}
    honest(plant, version="4.0.0")


def test_what_a_device_says_of_it(plant: Plant) -> None:
    """An order that was out before is refused by the device, which keeps what it runs."""
    ordered(plant)
    lift(plant, PATH)
    plant["a"].look()
    assert "component-mismatch" in plant["a"].told()
    assert plant["a"].running == b"app 1.0.0"


def test_in_use_only_the_mistake_goes(plant: Plant) -> None:
    """A release that an order names keeps its rightful listing, and the device installs it."""
    ordered(plant)
    lift(plant, PATH)
    (reason, *_) = plant.wiring.releases.yank(PATH, plant.now())
    assert "two-" in reason
    pending = plant.wiring.repositories.pending("image")
    assert pending is not None
    assert set(pending.roles) == {"targets"}
    assert plant.wiring.repositories.review(pending)[0] == f"targets: takes off {PATH}"
    _publish(plant)
    assert plant.damage() == []
    honest(plant)
    assert plant["a"].running == TWO


def test_out_of_use_all_of_it_goes(plant: Plant) -> None:
    """Yank means off the list: from top-level targets and from the component's role at once."""
    lift(plant, PATH)
    assert plant.wiring.releases.yank(PATH, plant.now()) == []
    pending = plant.wiring.repositories.pending("image")
    assert pending is not None
    assert set(pending.roles) == {"targets", "app"}
    _publish(plant)
    assert plant.damage() == []
    assert "2.0.0" not in versions(plant)
    with pytest.raises(NotFound):
        plant.wiring.releases.paths(PATH, plant.now())


def test_its_keyholders_must_sign(plant: Plant) -> None:
    """One signature of two: nothing is published, the mistake stands, and is still named."""
    lift(plant, PATH)
    plant.wiring.releases.yank(PATH, plant.now())
    (signed,) = plant.wiring.releases.sign("targets-1", plant.now())
    assert set(signed.missing) == {"targets", "app"}
    store = sorted(plant.store.rglob("*"))
    with pytest.raises(NeedsHuman) as caught:
        plant.wiring.releases.publish(plant.now())
    assert "targets" in str(caught.value)
    assert sorted(plant.store.rglob("*")) == store
    assert plant.damage() == ["image targets: component-mismatch"]


def test_a_change_that_lists_it_is_refused(plant: Plant) -> None:
    """Nobody publishes such a mistake with this program; what stands already stops no change."""
    (target,) = lift(plant, "app/app-3.0.0.bin").values()
    repos = plant.wiring.repositories

    def mistake(image: Image, pending: Pending | None) -> Pending:
        edit = image._edit(pending, plant.now())
        role = edit.role("targets")
        role.targets["app/evil.bin"] = target
        edit.changed("targets", role)
        return edit.done()

    repos.change_image(mistake)
    with pytest.raises(Refusal) as caught:
        _publish(plant)
    assert (caught.value.code, caught.value.subject) == ("component-mismatch", "app/evil.bin")
    repos.discard("image")
    repos.change(plant.now(), renew=[("image", "targets")])
    _publish(plant)
    assert plant.damage() == ["image targets: component-mismatch"]
    take_off(plant, "app/app-3.0.0.bin")
    assert plant.damage() == []


def test_approvers_are_no_release(plant: Plant) -> None:
    """The one thing that does stand there is not to be yanked."""
    with pytest.raises(NotFound):
        plant.wiring.releases.paths(APPROVERS_PATH, plant.now())
    with pytest.raises(NotFound):
        plant.wiring.releases.yank(APPROVERS_PATH, plant.now())
    assert plant.wiring.repositories.pending("image") is None


def test_on_the_command_line(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    """Named by ``ota repo verify``, taken off by its path, and good again: exit 3, 0, 0."""
    ordered(plant)
    lift(plant, PATH)

    def ota(*words: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = run(["-C", str(plant.workspace), *words, "-o", "json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    code, rows, err = ota("repo", "verify")
    assert code == 3
    assert PATH in json.dumps(rows) + err
    signed = ("--sign", "targets-1", "--sign", "targets-2", "--publish", "--yes")
    code, rows, err = ota("release", "yank", PATH, *signed)
    assert (code, rows) == (0, [{"path": PATH, "yanked": "published"}])
    assert f"{PATH}: only from where it does not belong" in err
    assert ota("repo", "verify")[0] == 0
    code, _, err = ota("release", "yank", PATH, *signed)
    assert (code, "code: in-use" in err) == (4, True)


def test_a_playbook_above_is_no_playbook(plant: Plant) -> None:
    """Nor is a playbook taken from there: it is named, and its yank takes it off."""
    thief = ImageThief(plant, *ENGINEERS)
    top: Targets = thief.read("targets")
    path, custom = "playbooks/evil-1.0.0.json", {"custom": {"kind": "playbook"}}
    top.targets[path] = TargetFile(2, {"sha256": "0" * 64}, path, custom)
    thief.publish(roles={"targets": top})
    assert "image targets: component-mismatch" in plant.damage()
    assert plant.wiring.library.listing(plant.now()) == []
    take_off(plant, path)
    assert plant.damage() == []


def _publish(plant: Plant) -> None:
    for name in ENGINEERS:
        plant.wiring.releases.sign(name, plant.now())
    plant.wiring.releases.publish(plant.now())
