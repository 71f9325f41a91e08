"""A delegated role naming another component: the team that signs ``mcu`` signs no ``app``."""

from __future__ import annotations

from securesystemslib.signer import CryptoSigner
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, listed, only, write
from simulators.threats import threat
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
    with threat(plant, "not-listed", keeps=KEEPS, heal=lambda: engineers.takes_off(EVIL)):
        role = engineers.lists(EVIL, b"evil", role="mcu", component="app")
        order(plant, role.targets[EVIL])
        engineers.publish(roles={"mcu": role})


def test_listed_by_the_list_of_components(plant: Plant) -> None:
    """The top level delegates; what it lists itself is no release."""
    engineers = ImageThief(plant, *ENGINEERS)
    with threat(plant, "component-mismatch", keeps=KEEPS, heal=lambda: engineers.takes_off(EVIL)):
        app: Targets = engineers.lists(EVIL, b"evil")
        evil = app.targets[EVIL]
        order(plant, evil)
        top: Targets = engineers.read("targets")
        top.targets[evil.path] = evil
        engineers.publish(roles={"targets": top})


def test_a_path_delegated_to_the_wrong_role(plant: Plant) -> None:
    """``app/*`` given to ``mcu``, first in the list: path and delegating role must agree."""
    engineers = ImageThief(plant, *ENGINEERS)
    honest: Targets = engineers.read("targets")

    def mended() -> None:
        honest.version = engineers.read("targets").version
        engineers.publish(roles={"targets": honest})
        engineers.takes_off(EVIL)

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


def test_a_component_handed_on_to_somebody_else(plant: Plant) -> None:
    """``app`` delegates to a key that is none of its keyholders': its bins are signed by them."""
    engineers = ImageThief(plant, *ENGINEERS)
    key = CryptoSigner.generate_ed25519()
    keyid = key.public_key.keyid

    def mended() -> None:
        role: Targets = engineers.read("app")
        role.delegations = None
        engineers.publish(roles={"app": role})

    with threat(plant, "bin-keyholders", keeps=("director",), heal=mended):
        role: Targets = engineers.lists(EVIL, b"evil")
        late = Targets(expires=role.expires, targets={EVIL: role.targets.pop(EVIL)})
        order(plant, late.targets[EVIL])
        data = write(engineers.folder / "1.theirs.json", late, key)
        role.delegations = Delegations(
            {keyid: key.public_key},
            {"theirs": DelegatedRole("theirs", [keyid], 1, terminating=True, paths=["app/*"])},
        )
        meta = {"theirs.json": listed(1, data)}
        engineers.publish(only(Snapshot, lambda s: s.meta.update(meta)), {"app": role})
