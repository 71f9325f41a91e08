"""A delegated role naming another component: the team that signs ``mcu`` signs no ``app``."""

from __future__ import annotations

from securesystemslib.signer import CryptoSigner
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, listed, only, write
from simulators.threats import honest, ordered, renew, take_off, threat
from tuf.api.metadata import DelegatedRole, Delegations, Snapshot, TargetFile, Targets

KEEPS = ("director", "image")
EVIL = "app/evil.bin"
ENGINEERS = ("targets-1", "targets-2")


def order(plant: Plant, listed: TargetFile) -> None:
    """The director's key orders what is about to be listed."""
    thief = Thief(plant)
    words = {"path": listed.path, "length": listed.length, "hashes": dict(listed.hashes)}
    thief.assign("a", thief.release("2.0.0"), **words)


def test_listed_by_the_wrong_role(plant: Plant) -> None:
    """``mcu`` lists ``app/evil.bin``: nobody asks it for that path."""
    engineers = ImageThief(plant, *ENGINEERS)
    with threat(plant, "not-listed", keeps=KEEPS):
        role = engineers.lists(EVIL, b"evil", role="mcu", component="app")
        order(plant, role.targets[EVIL])
        engineers.publish(roles={"mcu": role})
    take_off(plant, EVIL)


def test_listed_by_the_list_of_components(plant: Plant) -> None:
    """The top level delegates; what it lists itself is no release."""
    engineers = ImageThief(plant, *ENGINEERS)
    with threat(plant, "component-mismatch", keeps=KEEPS):
        app: Targets = engineers.lists(EVIL, b"evil")
        evil = app.targets[EVIL]
        order(plant, evil)
        top: Targets = engineers.read("targets")
        top.targets[evil.path] = evil
        engineers.publish(roles={"targets": top})
    assert plant.damage() == ["image targets: component-mismatch"]
    take_off(plant, EVIL)
    assert plant.damage() == []


def test_a_path_delegated_to_the_wrong_role(plant: Plant) -> None:
    """``app/*`` given to ``mcu``, first in the list: path and delegating role must agree."""
    engineers = ImageThief(plant, *ENGINEERS)
    honest: Targets = engineers.read("targets")

    def mended() -> None:
        honest.version = engineers.read("targets").version
        engineers.publish(roles={"targets": honest})

    with threat(plant, "component-mismatch", keeps=KEEPS, heal=mended):
        role = engineers.lists(EVIL, b"evil", role="mcu", component="app")
        order(plant, role.targets[EVIL])
        top: Targets = engineers.read("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        mcu = top.delegations.roles.pop("mcu")
        wide = DelegatedRole("mcu", mcu.keyids, mcu.threshold, True, ["mcu/*", "app/*"])
        top.delegations.roles = {"mcu": wide, **top.delegations.roles}
        engineers.publish(roles={"targets": top, "mcu": role})
    take_off(plant, EVIL)


def hand_on(engineers: ImageThief) -> TargetFile:
    """``app`` delegates to a key that is none of its keyholders'; what that key lists."""
    key = CryptoSigner.generate_ed25519()
    keyid = key.public_key.keyid
    role: Targets = engineers.lists(EVIL, b"evil")
    theirs = Targets(expires=role.expires, targets={EVIL: role.targets.pop(EVIL)})
    data = write(engineers.folder / "1.theirs.json", theirs, key)
    role.delegations = Delegations(
        {keyid: key.public_key},
        {"theirs": DelegatedRole("theirs", [keyid], 1, terminating=True, paths=["app/*"])},
    )
    meta = {"theirs.json": listed(1, data)}
    engineers.publish(only(Snapshot, lambda s: s.meta.update(meta)), {"app": role})
    return theirs.targets[EVIL]


def test_a_component_handed_on_to_somebody_else(plant: Plant) -> None:
    """A component's keyholders can not give their right away: its bins are signed by them."""
    ordered(plant)
    with threat(plant, "bin-keyholders"):
        hand_on(ImageThief(plant, *ENGINEERS))


def test_one_team_stops_no_other(plant: Plant) -> None:
    """While ``app`` is broken like that, ``mcu`` is published and all is refreshed; then it heals."""
    hand_on(ImageThief(plant, *ENGINEERS))
    assert plant.damage() == ["image app: bin-keyholders"]
    plant.publish(plant.build("1.2.0", component="mcu"))
    assert plant.wiring.refresh(every=True).problems == {}
    listed_now = {r.path for r in plant.wiring.catalogue.releases().values()}
    assert listed_now == {"mcu/mcu-1.0.0.bin", "mcu/mcu-1.2.0.bin"}
    renew(plant, "app")
    assert plant.damage() == []
    honest(plant)
