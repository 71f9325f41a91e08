"""Path tricks in names and device ids: nothing that is only a name decides where a file goes."""

from __future__ import annotations

import json

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.plant import Plant
from simulators.thief import ImageThief, Thief, listed, only, put, write
from simulators.threats import contents, honest, threat
from tuf.api.metadata import DelegatedRole, Snapshot, TargetFile, Targets

from ota.errors import Malformed, Refusal
from signing import layout, statement
from signing.enrolment import key_to_dict

PATHS = (
    "app/../../etc/passwd",
    "../app/evil.bin",
    "/app/evil.bin",
    "app//evil.bin",
    "app/a/b.bin",
    "app/.evil",
    "app/-evil",
    "app/..",
    "app/",
    "app",
    "app/evil.bin\n",
    "app/evil\0.bin",
    "app/%2e%2e%2fevil",
    "app\\evil.bin",
    "app/" + "x" * 129,
)


def test_a_path_that_leaves_its_place(plant: Plant) -> None:
    """A target is two plain segments, or the order for it is none."""
    everywhere = outside(plant)
    with threat(plant, "assignment-malformed") as gateway:
        thief = Thief(plant)
        for path in PATHS:
            target = thief.target()
            target.path = path
            thief.publish("a", [target])
            gateway.look()
            assert gateway.codes[-1] == "assignment-malformed", path
    assert outside(plant) == everywhere


def outside(plant: Plant) -> set[str]:
    """Files beside the plant's own folders."""
    own = {"workspace", "devices", "builds"}
    return {str(p) for p in plant.folder.iterdir() if p.name not in own}


@pytest.mark.parametrize("role", ["../../evil", "/tmp/evil", ".."])
def test_a_role_that_is_named_like_a_path(plant: Plant, role: str) -> None:
    """Roles are files of the trust folder under escaped names, whatever they are called."""
    engineers = ImageThief(plant, "targets-1", "targets-2")
    key = CryptoSigner.generate_ed25519()

    def mended() -> None:
        top: Targets = engineers.read("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        top.delegations.roles.pop(role)
        engineers.publish(roles={"targets": top})

    with threat(plant, "component-mismatch", keeps=("director", "image"), heal=mended) as gateway:
        evil: TargetFile = engineers.lists("app/evil.bin", b"evil").targets["app/evil.bin"]
        thief = Thief(plant)
        words = {"path": evil.path, "length": evil.length, "hashes": dict(evil.hashes)}
        thief.assign("a", thief.release("2.0.0"), **words)
        signed = Targets(expires=engineers.read("app").expires, targets={evil.path: evil})
        signed.unrecognized_fields["role"] = role
        data = write(plant.folder / "role.json", signed, key)
        put(plant.store / layout.image_metadata(layout.versioned(1, role)), data)
        top: Targets = engineers.read("targets")
        assert top.delegations is not None
        assert top.delegations.roles is not None
        top.delegations.keys[key.public_key.keyid] = key.public_key
        first = DelegatedRole(role, [key.public_key.keyid], 1, True, ["app/*"])
        top.delegations.roles = {role: first, **top.delegations.roles}
        meta = {f"{role}.json": listed(1, data)}
        engineers.publish(only(Snapshot, lambda s: s.meta.update(meta)), {"targets": top})
    trust = contents(gateway.home / "state" / "trust" / "image" / "current")
    assert all("/" not in name for name in trust)


IDS = ("../b", "a/b", "..", "a b", "", "x" * 129, "a\nb", "\u00e4", "b\0", "%2e%2e", "~")


def test_an_id_that_is_a_path(plant: Plant) -> None:
    """Checked before any path is made of it: by device, registry, director's desk and store."""
    before = contents(plant.folder)
    for device in IDS:
        refused_everywhere(plant, device)
    plant.reopen()
    after = contents(plant.folder)
    assert {n for n in after if "registry.db" not in n} == {
        n for n in before if "registry.db" not in n
    }
    assert [d.id for d in plant.wiring.registry.devices()] == ["a", "b"]
    honest(plant)


def refused_everywhere(plant: Plant, device: str) -> None:
    """Nobody takes this for a device's id."""
    for make in (
        lambda: layout.director_metadata(device, "timestamp.json"),
        lambda: plant.wiring.desk.register(device, plant.now()),
        lambda: plant.wiring.assignments(device),
    ):
        with pytest.raises(Malformed):
            make()
    key = CryptoSigner.generate_ecdsa()
    enrolment = json.loads((plant["a"].home / "state/identity/enrolment.json").read_bytes())
    body = dict(statement.peek("enrolment", json.dumps(enrolment).encode()).body)
    body |= {"device": device, "key": key_to_dict(key.public_key)}
    (joined,) = plant.wiring.join([statement.sign("enrolment", body, key)], None, {}, "spool")
    assert joined.result == "refused"
    assert isinstance(joined.error, Refusal)
    text = plant["a"].toml.read_text()
    plant["a"].toml.write_text(text.replace('device = "a"', f"device = {json.dumps(device)}"))
    with pytest.raises(Malformed):
        _ = plant["a"].config
    plant["a"].toml.write_text(text)


def test_a_spool_folder_that_is_nobodys(plant: Plant) -> None:
    """A report is where its device's folder is; anything else is set aside unread."""
    for folder in ("%2e%2e", "a%2Fb", "%00", "a b", "x" * 200):
        put(plant.spool / folder / "reports" / "0000000001-00000000.json", b"{}")
    put(plant.spool / "a" / "reports" / "..json", b"{}")
    put(plant.spool / "a" / "reports" / "%2e%2e", b"{}")
    plant.wiring.campaign.observe(plant.now())
    assert [d.id for d in plant.wiring.registry.devices()] == ["a", "b"]
    assert plant.evidence("a") != []
    honest(plant)
