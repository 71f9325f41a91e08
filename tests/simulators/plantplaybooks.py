"""Playbooks in a plant of :mod:`simulators.plant`: keyholders of their own, signed and published.

>>> publish(plant, TEXT)
>>> start(plant, "hello@1.0.0", {"who": "anna"})
'hello-x7k2m9'
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from simulators.plant import ALL, Plant

from ota.playbook import source

KEYS = ("playbooks-1", "playbooks-2")
ROLE = f"""
[components.playbooks]
keyholders = ["{KEYS[0]}", "{KEYS[1]}"]
threshold = 2
"""


def publish(plant: Plant, *texts: str) -> None:
    """Sign with both keyholders, who get keys and a role when they have none, and publish."""
    policy = plant.workspace / "repo-metadata" / "image.toml"
    signers: tuple[str, ...] = KEYS
    if ROLE not in policy.read_text():
        policy.write_text(policy.read_text() + ROLE)
        plant.reopen()
        for name in KEYS:
            plant.wiring.keyring.generate(name, "ed25519", plant.wiring.new_passphrase(name))
        signers = (*KEYS, "targets-1", "targets-2")
    for text in texts:
        plant.wiring.library.add(source.read(text.encode()), plant.now())
    for name in signers:
        plant.wiring.library.sign(name, plant.now())
    plant.wiring.library.publish(plant.now())


def plan(
    plant: Plant,
    name: str,
    parameters: Mapping[str, str] | None = None,
    waves: Sequence[Any] = ALL,
    **spec: Any,
) -> bytes:
    """A plan of a playbook, signed by its author."""
    words = {"rollout": name.partition("@")[0][:20], "soak": "0s", "deadline": "10m"} | spec
    words |= {"playbook": name, "parameters": dict(parameters or {}), "waves": list(waves)}
    made = plant.wiring.plan(json.dumps(words).encode(), "spec.yaml")
    return plant.wiring.sign_plan(made, "author")


def start(
    plant: Plant,
    name: str,
    parameters: Mapping[str, str] | None = None,
    waves: Sequence[Any] = ALL,
    **spec: Any,
) -> str:
    """Plan, approve, start; the rollout's id."""
    data = plan(plant, name, parameters, waves, **spec)
    return str(plant.wiring.campaign.start(data, [plant.approve(data)], plant.now())["rollout"])
