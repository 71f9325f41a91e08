"""Terminating and cyclic delegations: walks through roles that do not end where they should."""

from __future__ import annotations

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, listed, only, write
from simulators.threats import threat
from tuf.api.metadata import DelegatedRole, Delegations, Snapshot, TargetFile, Targets

EVIL = "app/evil.bin"
KEEPS = ("director", "image")
KEY = CryptoSigner.generate_ed25519()


def order(plant: Plant, evil: TargetFile) -> None:
    """The director's key orders it."""
    thief = Thief(plant)
    words = {"path": evil.path, "length": evil.length, "hashes": dict(evil.hashes)}
    thief.assign("a", thief.release("2.0.0"), **words)


def chain(plant: Plant, engineers: ImageThief, roles: dict[str, list[str]]) -> None:
    """``app`` and roles below it that delegate ``app/*`` on, each to the next ones by name."""
    made: dict[str, Targets] = {}
    expires = engineers.read("app").expires
    for name, children in roles.items():
        role: Targets = engineers.read("app") if name == "app" else Targets(expires=expires)
        delegated = {
            child: DelegatedRole(child, [KEY.public_key.keyid], 1, False, ["app/*"])
            for child in children
        }
        role.delegations = Delegations({KEY.public_key.keyid: KEY.public_key}, delegated)
        made[name] = role
    metas = {}
    for name, role in made.items():
        if name != "app":
            data = write(engineers.folder / f"1.{name}.json", role, KEY)
            metas[f"{name}.json"] = listed(1, data)
    engineers.publish(only(Snapshot, lambda s: s.meta.update(metas)), {"app": made["app"]})


def undone(engineers: ImageThief) -> None:
    """The component's role delegates to nobody again; what a snapshot listed stays listed."""
    role: Targets = engineers.read("app")
    role.delegations = None
    engineers.publish(roles={"app": role})


CYCLES = {
    "to itself": {"app": ["app"]},
    "in a ring": {"app": ["one"], "one": ["two"], "two": ["one", "app"]},
}


@pytest.mark.parametrize("how", CYCLES)
def test_a_cycle_ends(plant: Plant, how: str) -> None:
    """Each role is asked once; a release that none of them lists is not listed."""
    engineers = ImageThief(plant, "targets-1", "targets-2")
    with threat(plant, "not-listed", keeps=KEEPS, heal=lambda: undone(engineers)):
        evil = engineers.lists(EVIL, b"evil").targets[EVIL]
        order(plant, evil)
        chain(plant, engineers, CYCLES[how])


def test_more_roles_than_anybody_needs(plant: Plant) -> None:
    """A walk past its limit is refused by name, never given up in silence."""
    engineers = ImageThief(plant, "targets-1", "targets-2")
    names = ["app", *(f"role-{n}" for n in range(40))]
    roles = {name: names[at + 1 : at + 2] for at, name in enumerate(names)}
    with threat(plant, "delegations", keeps=("director",)):
        order(plant, engineers.lists(EVIL, b"evil").targets[EVIL])
        chain(plant, engineers, roles)


def test_behind_a_terminating_role(plant: Plant) -> None:
    """The component's role ends the walk: whoever is delegated the same paths after it is not asked."""
    engineers = ImageThief(plant, "targets-1", "targets-2")

    def without() -> None:
        top: Targets = engineers.read("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        del top.delegations.roles["late"]
        engineers.publish(roles={"targets": top})

    with threat(plant, "not-listed", keeps=KEEPS, heal=without):
        late = Targets(expires=engineers.read("app").expires)
        late.targets[EVIL] = engineers.lists(EVIL, b"evil").targets[EVIL]
        order(plant, late.targets[EVIL])
        data = write(engineers.folder / "1.late.json", late, KEY)
        top: Targets = engineers.read("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        top.delegations.keys[KEY.public_key.keyid] = KEY.public_key
        role = DelegatedRole("late", [KEY.public_key.keyid], 1, True, ["app/*"])
        top.delegations.roles["late"] = role
        meta = {"late.json": listed(1, data)}
        engineers.publish(only(Snapshot, lambda s: s.meta.update(meta)), {"targets": top})
