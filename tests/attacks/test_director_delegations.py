"""A director with delegations: it has one key and one list; nobody else orders in its name."""

from __future__ import annotations

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.plant import Plant
from simulators.thief import Thief, only
from simulators.threats import threat
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets


def by_name(targets: Targets) -> None:
    """One role, with a key of the thief's own."""
    key = CryptoSigner.generate_ed25519().public_key
    role = DelegatedRole("evil", [key.keyid], 1, terminating=True, paths=["app/*"])
    targets.delegations = Delegations({key.keyid: key}, {"evil": role})


def by_bins(targets: Targets) -> None:
    """Hash bins."""
    key = CryptoSigner.generate_ed25519().public_key
    bins = SuccinctRoles([key.keyid], 1, 2, "bin")
    targets.delegations = Delegations({key.keyid: key}, succinct_roles=bins)


def of_nothing(targets: Targets) -> None:
    """A delegation to nobody is one all the same."""
    targets.delegations = Delegations({}, {})


@pytest.mark.parametrize("how", [by_name, by_bins, of_nothing])
@pytest.mark.parametrize("orders", [0, 1])
def test_director_delegates(plant: Plant, how: object, orders: int) -> None:
    """Refused as a whole, whether or not it also orders something."""
    with threat(plant, "director-delegates"):
        thief = Thief(plant)
        thief.publish("a", [thief.target()] * orders, only(Targets, how))
