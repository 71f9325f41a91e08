"""The beginning and the end of things: provisioning a device, and taking a release off again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from simulators.plant import Gateway, Part, Plant
from simulators.plants import fixtures

from ota.errors import NotPermitted

ONE, TWO = b"app 1.0.0", b"app 2.0.0"
FLEET = ("a", "b")


def _make(folder: Path) -> Plant:
    plant = Plant(folder, FLEET)
    plant.publish(plant.build("1.0.0"), plant.build("2.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    return plant


frozen, plant = fixtures(_make)


def yank(plant: Plant, path: str) -> str:
    """Try it as a person would; "" or the reasons against it."""
    ran = plant.ota("release", "yank", path, "--yes")
    assert ran.returncode in {0, 4}, ran.stderr
    return ran.stderr if ran.returncode else ""


def test_a_release_in_use_is_not_taken_off(plant: Plant) -> None:
    """Director first, then yank: neither what runs, nor a way back, nor an order loses its listing."""
    one, two = "app/app-1.0.0.bin", "app/app-2.0.0.bin"
    assert "director" in yank(plant, one), "every device is assigned it"
    rollout = plant.start("two", "2.0.0", [{"name": "a", "devices": ["a"], "soak": "1h"}])
    plant.drive(rollout, 3)
    assert plant["a"].running == TWO
    assert "way back" in yank(plant, one)
    assert "open rollout" in yank(plant, two)
    plant.wiring.campaign.rollback(rollout, plant.now())
    assert plant.drive(rollout)["state"] == "ROLLED_BACK"
    assert yank(plant, two) == "", "nobody is assigned it any more"
    for name in ("targets-1", "targets-2"):
        plant.wiring.releases.sign(name, plant.now())
    plant.wiring.releases.publish(plant.now())
    assert set(plant.wiring.catalogue.releases()) == {one}
    plant.look()
    assert set(plant.runs().values()) == {ONE.decode()}
    assert plant.damage() == []


def test_what_was_yanked_is_installed_nowhere(plant: Plant) -> None:
    """Unlisted while an order for it is on its way: refused by the device, and nothing moves."""
    plant["b"].off = True
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    image = plant.wiring.repositories
    image.change_image(lambda i, p: i.yank(p, "app/app-2.0.0.bin", plant.now()))
    for name in ("targets-1", "targets-2"):
        image.sign(name, plant.now())
    image.publish(plant.now())
    plant["b"].off = False
    plant["b"].look()
    assert (plant["b"].running, plant["b"].told()[-1]) == (ONE, "not-listed")


def test_provisioning_wants_both_fingerprints(plant: Plant, ground: Path) -> None:
    """Roots come as files whose fingerprints somebody compared; otherwise nothing is written."""
    gateway = Gateway(plant, "new", [Part()])
    roots = {r["repository"]: r for r in plant.wiring.first_roots()}
    files = [word for name in roots for word in (f"--{name}-root", roots[name]["file"])]
    wrong = ["--root-sha256", roots["director"]["sha256"], "--root-sha256", "0" * 64]
    swapped = ["--director-root", roots["image"]["file"], "--image-root", roots["director"]["file"]]
    both = [w for r in roots.values() for w in ("--root-sha256", r["sha256"])]
    named = ["--director-root-sha256", roots["director"]["sha256"]]
    for words in (files, [*files, *wrong], [*swapped, *named, "--yes"]):
        ran = gateway.process("provision", *words)
        assert ran.returncode in {2, 3, 4}, (words, ran)
        assert not (gateway.home / "state" / "identity").exists()
        assert not (gateway.home / "state" / "trust").exists()
    ran = gateway.process("provision", *files, *both)
    assert ran.returncode == 0, ran.stderr
    assert gateway.process("provision", *files, *both).returncode == 4, "once"
    key = gateway.home / "state" / "identity" / "key.pem"
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_first_root_never_comes_from_the_store(plant: Plant) -> None:
    """Whatever stands there as root 1, a provisioned device neither asks for it nor believes it."""
    for path in plant.store.rglob("1.root.json"):
        path.chmod(0o644)
        path.write_bytes(b"{}")
    plant["a"].look()
    assert plant["a"].codes == []


@pytest.mark.parametrize("name", ["../b", "a/b", "a b", "", "x" * 129, "a\nb", "ä"])
def test_a_device_is_no_path(plant: Plant, name: str) -> None:
    """Identifiers are checked before any path is made of them, on both sides."""
    gateway = plant["a"]
    text = gateway.toml.read_text()
    gateway.toml.write_text(text.replace('device = "a"', f"device = {json.dumps(name)}"))
    before = sorted(p for p in plant.folder.rglob("*"))
    ran = gateway.process("once")
    assert ran.returncode == 2, ran.stderr
    assert "device" in ran.stderr
    assert sorted(p for p in plant.folder.rglob("*")) == before


def test_only_the_listed_may_join(plant: Plant) -> None:
    """An enrolment shows a key, not a right; and a key is never replaced by enrolling again."""
    stranger = Gateway(plant, "stranger", [Part()])
    allow = plant.folder / "allow.csv"
    allow.write_text("id,courier\nsomebody-else,spool\n")
    (joined,) = plant.wiring.join([stranger.enrol()], allow, {}, "spool")
    assert joined.result == "refused"
    assert isinstance(joined.error, NotPermitted)
    again = Gateway(plant, "a2", [Part()])
    text = again.toml.read_text().replace('device = "a2"', 'device = "a"')
    again.toml.write_text(text)
    key = plant.wiring.registry.device("a").key
    (joined,) = plant.wiring.join([again.enrol()], None, {}, "spool")
    assert joined.result == "refused"
    assert plant.wiring.registry.device("a").key == key
    assert [d.id for d in plant.wiring.registry.devices()] == list(FLEET)
