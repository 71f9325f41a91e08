"""An operator who approves for themselves: with the author's key, a second one, or a file."""

from __future__ import annotations

from datetime import timedelta

import pytest
from simulators.planners import CANARY, approval_by, refused
from simulators.plant import Plant
from simulators.threats import honest

from ota.errors import NeedsHuman, NotPermitted, Refusal
from signing import statement


def test_author_approves_for_themselves(plant: Plant) -> None:
    """The author's signature never counts as an approval."""
    plan = plant.plan("two", "2.0.0", CANARY)
    with pytest.raises(NotPermitted):
        plant.wiring.sign_approval(plan, "author", plant.now() + timedelta(days=1))
    mine = approval_by(plant, plan, "author")
    assert isinstance(refused(plant, plan, mine), NeedsHuman | NotPermitted | Refusal)
    assert isinstance(refused(plant, plan), NeedsHuman)
    honest(plant)


def test_two_authors_do_not_approve_for_each_other(plant: Plant) -> None:
    """Whoever signed the plan is its author, also the second of two."""
    file = plant.workspace / "repo-metadata" / "rollout.toml"
    both = '["author", "approver"]'
    file.write_text(file.read_text().replace('["author"]', both).replace('["approver"]', both))
    plant.reopen()
    plant.wiring.repositories.change(plant.now())
    for name in ("targets-1", "targets-2"):
        plant.wiring.repositories.sign(name, plant.now())
    plant.wiring.repositories.publish(plant.now())
    body = statement.peek("plan", plant.plan("two", "2.0.0", CANARY)).body
    keys = [plant.wiring.keyring.signer(name) for name in ("author", "approver")]
    for pair in (keys, keys[::-1]):
        plan = statement.sign("plan", dict(body), *pair)
        assert isinstance(refused(plant, plan, plant.approve(plan)), NeedsHuman)
    honest(plant)


def test_operator_names_themselves_approver(plant: Plant) -> None:
    """Who approves is a signed target of the image repository, not a file of the operator's."""
    file = plant.workspace / "repo-metadata" / "rollout.toml"
    before = file.read_text()
    file.write_text(before.replace('["approver"]', '["author", "image-online"]'))
    plant.reopen()
    plan = plant.plan("two", "2.0.0", CANARY)
    mine = plant.wiring.sign_approval(plan, "image-online", plant.now() + timedelta(days=1))
    assert refused(plant, plan, mine).exit_code in {3, 4, 6}
    file.write_text(before)
    plant.reopen()
    honest(plant)


def test_approvers_replaced_in_the_store(plant: Plant) -> None:
    """A store that serves other approvers is refused, not believed."""
    plan = plant.plan("two", "2.0.0", CANARY)
    approval = plant.approve(plan)
    (file,) = (plant.store / "image" / "targets" / "workspace").iterdir()
    before = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(before.replace(b'"threshold":1', b'"threshold":0'))
    plant.reopen()
    assert refused(plant, plan, approval).exit_code in {1, 3}
    file.write_bytes(before)
    plant.reopen()
    honest(plant)
