"""Thief: the keys of playbooks' keyholders. Both halves of what they are worth.

Two of two must sign here. To be as strong as it can, the thief also has the store and the image
repository's online key, so that whatever it signs is listed at once, past every review.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulators import plantplaybooks as playbooks
from simulators.plant import Plant
from simulators.plants import fixtures
from simulators.thief import ImageThief, Thief, put
from simulators.threats import ONE, TWO, honest, ordered, standing, take_off, threat
from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from ota.cli.app import run
from ota.errors import NeedsHuman, OtaError
from ota.playbook import source
from signing import layout, strict
from signing.playbooks import playbook as bodies
from signing.playbooks import target as playbook_target
from signing.playbooks.run import PlaybookRun

KEEPS = ("director", "image")
MARK, EVIL = "mark@1.0.0", "evil@1.0.0"


def text(folder: Path, name: str, word: str) -> str:
    return f"""\
name: {name}
version: 1.0.0
summary: Leave a mark
platforms: [linux]
steps:
  - name: write
    exec: {{argv: [sh, -c, 'printf %s "$1" >>"$2"', sh, "{word} ", "{folder}/mark"]}}
"""


def _make(folder: Path) -> Plant:
    plant = standing(folder)
    playbooks.publish(plant, text(folder, "mark", "honest"))
    return plant


frozen, plant = fixtures(_make)


def ran(plant: Plant) -> str:
    path = plant.folder / "mark"
    return path.read_text() if path.exists() else ""


def procedure(plant: Plant, name: str = "evil", word: str = "evil") -> TargetFile:
    """Any procedure at all, its text in the store; under the name of a listed one if one likes."""
    made = source.read(text(plant.folder, name, word).encode(), name)
    target = playbook_target.describe(made).to_target()
    put(
        plant.store / layout.image_target(target.path, target.hashes["sha256"]), bodies.encode(made)
    )
    return target


def listed(plant: Plant, target: TargetFile, *keys: str) -> None:
    """The role lists it, signed by these keyholders."""
    thief = ImageThief(plant, *(keys or playbooks.KEYS))
    role: Targets = thief.read("playbooks")
    role.targets[target.path] = target
    role.unrecognized_fields["issued"] = strict.stamp(plant.now())
    thief.publish(roles={"playbooks": role})


def order(plant: Plant, target: TargetFile) -> None:
    """What the director's key would sign for device ``a``."""
    end = plant.now().replace(year=plant.now().year + 1, day=1)
    words: dict[str, Any] = {"path": target.path, "length": target.length}
    run = PlaybookRun(
        **words, hashes=dict(target.hashes), parameters={}, rollout="evil-aaaaaa", wave=0,
        order="ota-evil-aaaaaa-u1-w0-b0", least_image_snapshot=1, not_after=strict.stamp(end),
    )  # fmt: skip
    Thief(plant).publish("a", [run.to_target()])


def idle(plant: Plant) -> None:
    """Every device looks, with no order: it runs nothing and keeps what it runs."""
    for gateway in plant.devices.values():
        assert gateway.look() == []
        assert gateway.running == ONE
    assert ran(plant) == ""


def works(plant: Plant) -> None:
    """The next honest playbook runs once on each device."""
    rollout = playbooks.start(plant, MARK)
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert ran(plant) == "honest honest "


# -- one of two ----------------------------------------------------------------------------------
def test_one_can_list_nothing(plant: Plant) -> None:
    """Two must sign: nothing of the role is believed, and the releases of others go on."""
    ordered(plant)
    target = procedure(plant)
    listed(plant, target, playbooks.KEYS[0])
    plant["a"].look()
    assert plant["a"].running == TWO
    order(plant, target)
    plant["a"].look()
    assert (ran(plant), plant["a"].told()[-1]) == ("", "signature")
    assert plant.damage()[0] == "image metadata: signature"


def test_one_can_not_publish_by_the_honest_way(plant: Plant) -> None:
    """A change that waits with one signature is not published."""
    made = source.read(text(plant.folder, "evil", "evil").encode(), "evil")
    plant.wiring.library.add(made, plant.now())
    plant.wiring.library.sign(playbooks.KEYS[0], plant.now())
    with pytest.raises(NeedsHuman):
        plant.wiring.library.publish(plant.now())
    idle(plant)


# -- both of them, can ---------------------------------------------------------------------------
def test_both_can_list_any_procedure(plant: Plant) -> None:
    """It stands in the catalogue like an honest one, and anybody who looks sees it."""
    listed(plant, procedure(plant))
    assert plant.damage() == []
    shown = {i.target.short: i.state for i in plant.wiring.library.listing(plant.now())}
    assert shown == {MARK: "published", EVIL: "published"}
    idle(plant)


def test_both_can_take_a_procedure_away(plant: Plant) -> None:
    """What is not listed can not be run: a rollout of it holds, and says why."""
    rollout = playbooks.start(
        plant, MARK, {}, ({"name": "one", "count": 1}, {"name": "rest", "rest": True})
    )
    thief = ImageThief(plant, *playbooks.KEYS)
    role: Targets = thief.read("playbooks")
    role.targets.clear()
    thief.publish(roles={"playbooks": role})
    assert plant.drive(rollout)["state"] == "HELD"
    assert "no longer listed" in " ".join(plant.status(rollout)["reasons"])
    assert ran(plant) == ""


def test_with_the_director_they_can_do_what_the_owners_can(plant: Plant) -> None:
    """Listed and ordered, it runs: why these keys share no person and no machine with the director."""
    target = procedure(plant)
    listed(plant, target)
    order(plant, target)
    plant["a"].look()
    assert ran(plant) == "evil "


# -- both of them, can not -----------------------------------------------------------------------
def test_both_can_not_start_it(plant: Plant) -> None:
    """Listed, and hinted at by whoever carries hints: no device runs what its director does not order."""
    listed(plant, procedure(plant))
    words = {"schema": 1, "device": "a", "order": "ota-evil-aaaaaa-u1-w0-b0"}
    words |= {"rollout": "evil-aaaaaa", "playbook": EVIL, "parameters": {}}
    put(plant["a"].spool / "orders" / "ota-evil-aaaaaa-u1-w0-b0.json", json.dumps(words).encode())
    plant["a"].look()
    assert ran(plant) == ""
    assert set(plant["a"].told()) <= {"hint-playbook", "not-assigned"}
    works(plant)


def test_both_can_not_exchange_what_was_ordered(plant: Plant) -> None:
    """Another text under the ordered name: the director's hash is another one, and nothing runs."""
    rollout = playbooks.start(plant, MARK)
    plant.step(rollout)
    listed(plant, procedure(plant, "mark"))
    plant["a"].look()
    assert (ran(plant), plant["a"].told()[-1]) == ("", "target-mismatch")
    listed(plant, procedure(plant, "mark", "honest"))
    assert plant.drive(rollout)["state"] in {"COMPLETED", "HELD"}
    if plant.wiring.open_rollouts():  # a person saw the refusal, and its reason
        plant.wiring.campaign.resume(rollout, plant.now())
        assert plant.drive(rollout)["state"] == "COMPLETED"
    assert ran(plant) == "honest ", "a is out of this rollout, for a person saw its refusal"
    rollout = playbooks.start(plant, MARK, select="id in (a)")
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert ran(plant) == "honest honest "


def test_both_can_not_exchange_what_was_approved(plant: Plant) -> None:
    """A plan freezes hashes: with another text under the name, it holds before any device is asked."""
    plan = playbooks.plan(plant, MARK)
    approval = plant.approve(plan)
    listed(plant, procedure(plant, "mark"))
    try:
        rollout = plant.wiring.campaign.start(plan, [approval], plant.now())["rollout"]
    except OtaError as e:
        assert e.code in {"outside-plan", "not-listed"}  # noqa: PT017 - refused as early as that
    else:
        assert plant.drive(rollout)["state"] == "HELD"
        assert "no longer listed as the plan froze it" in " ".join(plant.status(rollout)["reasons"])
    idle(plant)


def _release(plant: Plant, path: str) -> TargetFile:
    """The honest description of a release, for other bytes, at a path of one's choice."""
    like: TargetFile = ImageThief(plant).read("app").targets["app/app-2.0.0.bin"]
    data = b"evil"
    put(plant.store / layout.image_target(path, strict.digest(data)), data)
    words = {"custom": dict(like.unrecognized_fields["custom"])}
    return TargetFile(len(data), {"sha256": strict.digest(data)}, path, words)


@pytest.mark.parametrize(
    ("path", "code"),
    [("app/evil.bin", "not-listed"), ("playbooks/evil.bin", "kind-mismatch")],
)
def test_both_can_not_list_a_release(plant: Plant, path: str, code: str) -> None:
    """Not even with the director's key: their role is asked for playbooks, and for nothing else."""
    target = _release(plant, path)

    def mended() -> None:
        plant.wiring.desk.withdraw("a", ["ota-evil-aaaaaa-u1-w0-b0"], plant.now())
        take_off(plant, path, playbooks.KEYS)

    with threat(plant, code, keeps=KEEPS, heal=mended):
        listed(plant, target)
        if path.startswith("playbooks/"):
            order(plant, target)
        else:
            thief = Thief(plant)
            words = {"path": path, "length": target.length, "hashes": dict(target.hashes)}
            thief.assign("a", thief.release("2.0.0"), **words)


def _lower(top: Targets) -> None:
    assert top.delegations is not None
    assert top.delegations.roles is not None
    top.delegations.roles["playbooks"].threshold = 1


def _wider(top: Targets) -> None:
    assert top.delegations is not None
    assert top.delegations.roles is not None
    old = top.delegations.roles.pop("playbooks")
    wide = DelegatedRole("playbooks", old.keyids, old.threshold, True, ["playbooks/*", "app/*"])
    top.delegations.roles = {"playbooks": wide, **top.delegations.roles}


@pytest.mark.parametrize("edit", [_lower, _wider])
def test_both_can_not_widen_their_right(plant: Plant, edit: Callable[[Targets], None]) -> None:
    """Threshold and paths of their role stand in top-level targets, which others sign."""
    ordered(plant)
    with threat(plant, "signature"):
        thief = ImageThief(plant, *playbooks.KEYS)
        top: Targets = thief.read("targets")
        edit(top)
        thief.publish(roles={"targets": top})


def test_both_can_not_hand_their_right_on(plant: Plant) -> None:
    """A role of playbooks that delegates has its playbooks refused, here and on devices."""
    thief = ImageThief(plant, *playbooks.KEYS)
    role: Targets = thief.read("playbooks")
    app: Targets = thief.read("targets")
    assert app.delegations is not None
    role.delegations = app.delegations
    thief.publish(roles={"playbooks": role})
    assert plant.damage() != []
    idle(plant)
    plant.publish(plant.build("4.0.0"))
    honest(plant, version="4.0.0")


def test_both_can_not_pass_an_owner_who_said_no(plant: Plant) -> None:
    """``playbooks = false`` in the device's own file: not even with the director's key."""
    toml = plant["a"].toml
    toml.write_text(f"playbooks = false\n{toml.read_text()}")
    target = procedure(plant)
    listed(plant, target)
    order(plant, target)
    plant["a"].look()
    assert ran(plant) == ""
    assert plant["a"].told()[-1] == "playbooks-off"


def test_both_can_not_stop_others(plant: Plant) -> None:
    """A description that is no playbook is named; other playbooks and releases go on; it is yanked."""
    target = procedure(plant)
    custom: dict[str, Any] = dict(target.unrecognized_fields["custom"])
    target.unrecognized_fields["custom"] = custom | {"roads": ["nowhere"]}
    listed(plant, target)
    assert plant.damage() == ["image playbooks: playbook-malformed"]
    assert [i.target.short for i in plant.wiring.library.listing(plant.now())] == [MARK]
    honest(plant)
    works(plant)
    take_off(plant, target.path, playbooks.KEYS)
    assert plant.damage() == []


# -- when it is noticed --------------------------------------------------------------------------
def test_what_it_let_in_is_found_and_taken_off(
    plant: Plant, capsys: pytest.CaptureFixture[str]
) -> None:
    """``ota repo suspects``: the procedure, and the devices that ran it, by their signed reports.

    A thief who also signs an older date is found with an earlier ``--since`` only, as for releases.
    """
    since = strict.stamp(plant.now())
    plant.later(minutes=1)
    target = procedure(plant)
    listed(plant, target)
    order(plant, target)
    plant["a"].look()
    plant.wiring.campaign.observe(plant.now())
    assert ran(plant) == "evil "
    plant.wiring.close()
    capsys.readouterr()
    words = ("repo", "suspects", "--key", playbooks.KEYS[0], "--since", since, "-o", "json")
    assert run(["-C", str(plant.workspace), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [s["path"] for s in found["suspects"]] == [target.path]
    assert found["devices"] == [
        {"device": "a", "component": "playbooks", "path": target.path, "slot": "ran"}
    ]
    assert run(["-C", str(plant.workspace), *words, "--yank", "--yes"]) == 4
    out, err = capsys.readouterr()
    assert [s["yanked"] for s in json.loads(out)["suspects"]] == [False]
    assert "1 of 1 are in use and stay: playbooks/evil-1.0.0.json: the director assigns it" in err
    plant.reopen()
    plant.wiring.desk.withdraw("a", ["ota-evil-aaaaaa-u1-w0-b0"], plant.now())
    plant.wiring.close()
    assert run(["-C", str(plant.workspace), *words, "--yank", "--yes"]) == 0
    assert [s["yanked"] for s in json.loads(capsys.readouterr().out)["suspects"]] == [True]
