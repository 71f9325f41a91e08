"""A rollout is exactly what was approved (rule 15): plans, approvals and journals under attack."""

from __future__ import annotations

import json
import sqlite3
from base64 import b64decode, b64encode
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.plant import Plant
from simulators.plants import fixtures
from simulators.thief import Thief

from ota.errors import NeedsHuman, NotPermitted, OtaError, Refusal
from signing import plan as plans
from signing import statement

ONE, TWO = "app 1.0.0", "app 2.0.0"
CANARY = ({"name": "canary", "devices": ["a"]},)


def _make(folder: Path) -> Plant:
    plant = Plant(folder, ["a", "b"])
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"), plant.build("3.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    return plant


frozen, plant = fixtures(_make)


def refused(plant: Plant, plan: bytes, *approvals: bytes) -> OtaError:
    """It does not start; no rollout, no assignment and no hint comes of it."""
    before = [row["rollout"] for row in plant.wiring.campaign.rollouts(plant.now())]
    assigned = {d: plant.wiring.desk.assignments(d) for d in plant.devices}
    with pytest.raises(OtaError) as caught:
        plant.wiring.campaign.start(plan, approvals, plant.now())
    assert [row["rollout"] for row in plant.wiring.campaign.rollouts(plant.now())] == before
    assert {d: plant.wiring.desk.assignments(d) for d in plant.devices} == assigned
    assert not any(g.hinted for g in plant.devices.values())
    plant.look()
    assert set(plant.runs().values()) == {ONE}
    return caught.value


def edited(envelope: bytes, old: bytes, new: bytes) -> bytes:
    """The same signatures over another payload."""
    outer = json.loads(envelope)
    payload = b64decode(outer["payload"])
    assert old in payload
    outer["payload"] = b64encode(payload.replace(old, new)).decode()
    return json.dumps(outer).encode()


@pytest.mark.parametrize(("old", "new"), [(b"2.0.0", b"3.0.0"), (b'["a"', b'["b"')])
def test_plan_changed_after_approval(plant: Plant, old: bytes, new: bytes) -> None:
    """Another release or another device under the same signatures is not what was signed."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    error = refused(plant, edited(plan, old, new), approval)
    assert (type(error), error.code) == (Refusal, "statement-signature")


def test_approval_of_another_plan(plant: Plant) -> None:
    """An approval is for one digest: yesterday's approval starts nothing today."""
    plan = plant.plan("two", "2.0.0", CANARY)
    other = plant.approve(plant.plan("two", "2.0.0"))
    assert refused(plant, plan, other).code == "approval-mismatch"


def test_approval_replayed_in_another_workspace(plant: Plant, ground: Path) -> None:
    """Plan and approval name the first roots of both repositories: elsewhere they are foreign."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    other = Plant(ground / "elsewhere", ["a", "b"], fresh=True)
    other.publish(other.build("1.0.0"), other.build("2.0.0"))
    assert other.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    assert refused(other, plan, approval).code == "statement-signature"
    assert refused(other, plan).code == "author-unlisted"
    body = statement.peek("plan", plan).body
    again = statement.sign("plan", dict(body), other.wiring.keyring.signer("author"))
    signed = plans.approve(
        again,
        plant.wiring.repositories.workspace(),
        plant.now() + timedelta(days=1),
        other.wiring.keyring.signer("approver"),
    )
    assert refused(other, again, signed).code == "workspace-mismatch"
    other.wiring.close()


def test_author_approves_for_themselves(plant: Plant) -> None:
    """The author's signature never counts as an approval."""
    plan = plant.plan("two", "2.0.0", CANARY)
    mine = plant.wiring.sign_approval(plan, "author", plant.now() + timedelta(days=1))
    assert isinstance(refused(plant, plan, mine), NeedsHuman | NotPermitted | Refusal)
    assert isinstance(refused(plant, plan), NeedsHuman)


def test_two_authors_do_not_approve_for_each_other(plant: Plant) -> None:
    """Whoever signed the plan is its author, also the second of two."""
    file = plant.workspace / "repo-metadata" / "rollout.toml"
    both = '["author", "approver"]'
    file.write_text(file.read_text().replace('["author"]', both).replace('["approver"]', both))
    plant.reopen()
    plant.wiring.repositories.change_image(lambda i, p: i.set_approvers(p, plant.now()))
    for name in ("targets-1", "targets-2"):
        plant.wiring.repositories.sign(name, plant.now())
    plant.wiring.repositories.publish(plant.now())
    body = statement.peek("plan", plant.plan("two", "2.0.0", CANARY)).body
    keys = [plant.wiring.keyring.signer(name) for name in ("author", "approver")]
    for pair in (keys, keys[::-1]):
        plan = statement.sign("plan", dict(body), *pair)
        assert isinstance(refused(plant, plan, plant.approve(plan)), NeedsHuman)


def test_operator_names_themselves_approver(plant: Plant) -> None:
    """Who approves is a signed target of the image repository, not a file of the operator's."""
    file = plant.workspace / "repo-metadata" / "rollout.toml"
    file.write_text(file.read_text().replace('["approver"]', '["author", "image-online"]'))
    plant.reopen()
    plan = plant.plan("two", "2.0.0", CANARY)
    mine = plant.wiring.sign_approval(plan, "image-online", plant.now() + timedelta(days=1))
    assert refused(plant, plan, mine).exit_code in {3, 4, 6}


def test_approvers_replaced_in_the_store(plant: Plant) -> None:
    """A store that serves other approvers is refused, not believed."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    folder = plant.store / "image" / "targets" / "workspace"
    for file in folder.iterdir():
        file.chmod(0o644)
        file.write_bytes(file.read_bytes().replace(b'"threshold":1', b'"threshold":0'))
    plant.reopen()
    assert refused(plant, plan, approval).exit_code in {1, 3}


def test_expired_approval(plant: Plant) -> None:
    """It ends on its day, also for a rollout that runs: no further order goes out."""
    plan = plant.plan("two", "2.0.0", [*CANARY, {"name": "rest", "rest": True}])
    approval = plant.approve(plan)
    plant.later(days=2)
    assert refused(plant, plan, approval).code == "approval-expired"
    rollout = plant.start("run", "2.0.0", [*CANARY, {"name": "rest", "rest": True}])
    plant.step(rollout)
    plant["a"].look()
    plant.later(hours=25)
    plant.wiring.refresh(every=True)
    plant.step(rollout)
    status = plant.status(rollout)
    assert status["state"] == "HELD"
    assert "approval-expired" in " ".join(status["reasons"])
    assert (plant.runs()["a"], plant["b"].hinted) == (TWO, False)


def test_a_device_outside_the_plan(plant: Plant) -> None:
    """The director's signer holds every assignment against the approved plan itself."""
    plan = plant.plan("two", "2.0.0", CANARY)
    found = plant.wiring.campaign.start(plan, [plant.approve(plan)], plant.now())
    plant.step(found["rollout"])
    honest = plant.wiring.desk.assignments("a")["app"]
    case = plant.wiring.campaign._engine.case(found["rollout"], plant.now())
    leave = plant.wiring.campaign._engine.authority.authorise(case.view, plant.now())
    thief = Thief(plant)
    three = thief.assignment(thief.release("3.0.0"), rollout=honest.rollout, order=honest.order)
    for device, wanted in (("b", honest), ("a", three)):
        before = plant.wiring.desk.assignments(device)
        with pytest.raises(Refusal) as caught:
            plant.wiring.desk.assign(leave, device, wanted, plant.now())
        assert caught.value.code == "outside-plan"
        assert plant.wiring.desk.assignments(device) == before


def test_journal_rewritten(plant: Plant) -> None:
    """A changed line of history is found: the rollout moves no more, and says why (exit 3)."""
    rollout = plant.start("two", "2.0.0", CANARY)
    plant.step(rollout)
    plant.wiring.close()
    database = sqlite3.connect(plant.workspace / "state" / "registry.db")
    edit = "UPDATE rollout_journal SET line = replace(line, '[\"a\"]', '[\"b\"]')"
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        database.execute(edit)
    database.execute("DROP TRIGGER rollout_journal_UPDATE")  # an owner of the database can
    assert database.execute(f'{edit} WHERE line LIKE \'%"kind":"order"%\'').rowcount > 0
    database.commit()
    database.close()
    plant.reopen()
    ran = plant.ota("rollout", "run", rollout, "--time-limit", "0s")
    assert ran.returncode == 3, ran.stderr
    assert "journal-broken" in ran.stderr
    assert not plant["b"].hinted
    plant.look()
    assert plant.runs()["b"] == ONE
