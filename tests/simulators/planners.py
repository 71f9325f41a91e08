"""Plans and approvals under attack: what must not start, and that nothing came of it.

>>> refused(plant, edited(plan, b"2.0.0", b"3.0.0"), approval).code
'statement-signature'
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import timedelta

import pytest
from simulators.plant import Plant

from ota.errors import OtaError
from signing.approval import approve

CANARY = ({"name": "canary", "devices": ["a"]},)


def refused(plant: Plant, plan: bytes, *approvals: bytes) -> OtaError:
    """Why it does not start; no rollout, no assignment and no hint comes of it, nobody moves."""
    before = [row["rollout"] for row in plant.wiring.campaign.rollouts(plant.now())]
    assigned = {d: plant.wiring.desk.assignments(d) for d in plant.devices}
    runs = plant.runs()
    with pytest.raises(OtaError) as caught:
        plant.wiring.campaign.start(plan, approvals, plant.now())
    assert [row["rollout"] for row in plant.wiring.campaign.rollouts(plant.now())] == before
    assert {d: plant.wiring.desk.assignments(d) for d in plant.devices} == assigned
    assert not any(g.hinted for g in plant.devices.values())
    plant.look()
    assert plant.runs() == runs
    return caught.value


def approval_by(plant: Plant, plan: bytes, key: str) -> bytes:
    """An approval of this plan by any key at all, whatever ``ota rollout approve`` would say."""
    workspace = plant.wiring.repositories.workspace()
    until = plant.now() + timedelta(days=1)
    return approve(plan, workspace, until, plant.wiring.keyring.signer(key))


def edited(envelope: bytes, old: bytes, new: bytes) -> bytes:
    """The same signatures over another payload."""
    outer = json.loads(envelope)
    payload = b64decode(outer["payload"])
    assert old in payload
    outer["payload"] = b64encode(payload.replace(old, new)).decode()
    return json.dumps(outer).encode()
