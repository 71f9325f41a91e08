"""What every threat in ``tests/attacks/`` ends in, however it began: three things.

A real agent looks at a store, a spool or a network that lies. Then

1. *nothing has changed* on it: what runs, the installer's own files, floors, denials, identity,
   and its trusted metadata byte for byte;
2. *a signed report names it*: collected by the couriers, verified and kept by the registry;
3. *the next honest update works*, and the device is sound.

Slots, journal, trust room and installer are the product's own; see ``plant.py``.

>>> with threat(plant, "metadata-rollback"):
...     replay(plant)
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from simulators.plant import Gateway, Plant, sha
from simulators.thief import newest
from simulators.webstore import WebStore, webstore

from ota.repositories import rotating
from ota.repositories.opened import Repository
from signing import report, statement
from signing.layout import DIRECTOR_ROOT, IMAGE, TARGETS
from signing.report import Report

ONE, TWO, THREE = b"app 1.0.0", b"app 2.0.0", b"app 3.0.0"
OTHER = "app/other-hardware.bin"
BOTH = ("director", "image")
ONLINE = ("timestamp", "snapshot", "targets")
ENGINEERS = ("targets-1", "targets-2")
ROOTS = {"director": ("director-root-1", "director-root-2"), "image": ("root-1", "root-2")}
"""Who signs each repository's next root."""
FILES = (
    *(f"director {role}" for role in ("root", *ONLINE)),
    *(f"image {role}" for role in ("root", *ONLINE, "app")),
)
"""What :func:`files` finds."""


def standing(folder: Path) -> Plant:
    """Two devices that run 1.0.0; newer releases, other hardware's and another component's."""
    plant = Plant(folder, ["a", "b"])
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    plant.publish(
        plant.build("2.0.0"),
        plant.build("3.0.0"),
        plant.build("1.0.0", component="mcu"),
        plant.build("9.0.0", hardware_ids=("gw-rev-a",), path=OTHER),
    )
    return plant


def news(plant: Plant, device: str = "a") -> str:
    """Every file of both repositories is new to the device, and an order waits; the rollout."""
    plant.publish(plant.build("4.0.0"), plant.build("1.1.0", component="mcu"))
    return ordered(plant, device)


def files(plant: Plant, device: str = "a") -> dict[str, Path]:
    """Every metadata file of the store that a device would fetch now, by repository and role."""
    where = {"director": plant[device].director(""), "image": plant.store / IMAGE}
    roles = {"director": ONLINE, "image": (*ONLINE, "app")}
    found = {f"{r} {role}": newest(where[r], role) for r in BOTH for role in roles[r]}
    roots = {"director": plant.store / DIRECTOR_ROOT, "image": where["image"]}
    return found | {f"{name} root": roots[name] / "2.root.json" for name in BOTH}


def sees(gateway: Gateway) -> None:
    """It reads and keeps the newest metadata, and acts on nothing."""
    with gateway.opened() as agent:
        agent.trust.cycle(agent.known(), gateway.clock())


def before(what: str) -> tuple[str, ...]:
    """The repositories that a device has rightly believed when it asks for this of its files."""
    return ("director",) if what.startswith("image") else ()


def ordered(plant: Plant, device: str = "a", version: str = "2.0.0") -> str:
    """An honest order is out for one device, which has not looked yet; the rollout's id."""
    rollout = plant.start("two", version, [{"name": device, "devices": [device]}])
    plant.step(rollout)
    return rollout


# -- the three things ----------------------------------------------------------------------------
@dataclass(frozen=True)
class Remembered:
    """What no attack may change. ``trust``: repository -> file -> bytes.

    ``files``: slots, configuration, identity, and what installers keep, but for their cache of
    hashes by inode.
    """

    files: dict[str, bytes]
    trust: dict[str, dict[str, bytes]]
    floors: dict[str, int]
    denials: dict[Any, str]
    clock_floor: datetime

    @classmethod
    def of(cls, gateway: Gateway) -> Remembered:
        home, state = gateway.home, gateway.home / "state"
        own = [state / "components", state / "identity"]
        slots = [p for p in home.iterdir() if p != state]
        with gateway.opened() as agent:
            journal = agent.state
            facts = journal.floors(), journal.denials(), journal.clock_floor
        trust = {name: contents(state / "trust" / name / "current") for name in BOTH}
        found = contents(home, *slots, *own)
        files = {n: data for n, data in found.items() if not n.endswith("/hashes.json")}
        return cls(files, trust, *facts)


def contents(folder: Path, *roots: Path) -> dict[str, bytes]:
    """Every file below, by its name relative to ``folder``; a link by where it points."""
    found = {}
    for root in roots or (folder,):
        for path in [root, *root.rglob("*")]:
            name = str(path.relative_to(folder))
            if path.is_symlink() and path != folder:
                found[name] = str(path.readlink()).encode()
            elif path.is_file():
                found[name] = path.read_bytes()
    return found


@contextlib.contextmanager
def threat(
    plant: Plant,
    *codes: str,
    device: str = "a",
    event: str = "refusal",
    keeps: tuple[str, ...] = (),
    next_is: str = "2.0.0",
    unseen: bool = False,
    heal: Callable[[], object] = bool,
) -> Iterator[Gateway]:
    """The block attacks; then ``device`` looks, and the three things are asserted.

    ``codes`` are those of which one must be told; ``event`` is "refusal", "stale" or "outage".
    ``keeps`` names repositories whose new metadata is rightly believed all the same, because its
    own signatures hold: it is left as the attacker made it. All else in the store is put back, as
    operators would, who then ``heal`` whatever else there is, before the honest update to
    ``next_is``.
    Before the block the device reads all metadata and acts on nothing, unless that is ``unseen``.
    """
    gateway = plant[device]
    if not unseen:
        sees(gateway)
    plant.wiring.campaign.observe(plant.now())
    known = plant.wiring.registry.device(device).counter
    remembered = Remembered.of(gateway)
    kept = shutil.copytree(plant.store, plant.folder / "honest-store")
    started = plant.now()
    yield gateway
    gateway.look()
    unchanged(gateway, remembered, keeps)
    named(gateway, codes, event, known)
    restore(plant.store, kept, keeps)
    shutil.rmtree(kept)
    heal()
    if plant.now() - started > timedelta(hours=1):
        plant.wiring.refresh(every=True)
    honest(plant, device, next_is)


def restore(store: Path, kept: Path, keeps: tuple[str, ...] = ()) -> None:
    """Put the store back but for the metadata of these repositories."""
    for name in set(BOTH) - set(keeps):
        shutil.rmtree(store / name, ignore_errors=True)
        (kept / name).rename(store / name)
    if "image" in keeps:
        shutil.copytree(kept / TARGETS, store / TARGETS, dirs_exist_ok=True)


def unchanged(gateway: Gateway, before: Remembered, keeps: tuple[str, ...] = ()) -> None:
    """(1) What runs, floors, denials, identity, and trust but for what it ``keeps``."""
    after = Remembered.of(gateway)
    assert after.files == before.files
    assert (after.floors, after.denials) == (before.floors, before.denials)
    for name in set(BOTH) - set(keeps):
        assert after.trust[name] == before.trust[name], name
    assert before.clock_floor <= after.clock_floor <= gateway.plant.now()


def named(gateway: Gateway, codes: tuple[str, ...], event: str, known: int = 0) -> Report:
    """(2) The registry has a newer report, signed by this device, that says so."""
    plant = gateway.plant
    plant.wiring.campaign.observe(plant.now())
    key = plant.wiring.registry.device(gateway.id).key
    told = [
        report.read(statement.verify("report", stored.envelope, [key]))
        for stored in plant.wiring.registry.history(gateway.id)
        if stored.report.counter > known
    ]
    found = [r for r in told if r.event == event and r.code in codes]
    assert found, [(r.event, r.code, r.detail) for r in told]
    state = found[0].components["app"].current
    assert gateway.running is None or (state and state.sha256 == sha(gateway.running))
    return found[0]


def honest(plant: Plant, device: str = "a", version: str = "2.0.0") -> None:
    """(3) An honest rollout, the one that is open or a new one, reaches the device."""
    gateway = plant[device]
    waiting = plant.wiring.open_rollouts()
    rollout = waiting[0] if waiting else plant.start("honest", version)
    gateway.look()
    status = plant.drive(rollout)
    if status["state"] == "HELD":  # a gate that saw a refusal asks a person, who saw the reason
        plant.wiring.campaign.resume(rollout, plant.now())
        status = plant.drive(rollout)
    if status["state"] == "ROLLED_BACK":  # a gate that saw an order fail has ended it
        status = plant.drive(plant.start("again", version))
    assert status["state"] == "COMPLETED", status
    assert gateway.running == f"app {version}".encode()
    assert gateway.sound()
    (latest,) = plant.wiring.registry.history(device, 1)
    state = latest.report.components["app"].current
    assert state is not None
    assert state.sha256 == sha(gateway.running)


# -- what operators do about it ------------------------------------------------------------------
def recover(plant: Plant, repository: Repository) -> None:
    """An online key was stolen: a new one in its place, the root first, then everything anew."""
    old = f"{repository}-online"
    plant.wiring.keyring.generate(f"{old}-2", "ed25519", plant.wiring.new_passphrase(old))
    policy = plant.workspace / "repo-metadata" / f"{repository}.toml"
    policy.write_text(policy.read_text().replace(f'"{old}"', f'"{old}-2"'))
    plant.reopen()
    repos = plant.wiring.repositories
    repos.change(plant.now(), repository)
    for name in ROOTS[repository]:
        repos.sign(name, plant.now())
    assert rotating.recover(repos, repository, plant.now()).problems == {}


def take_off(plant: Plant, path: str, signers: tuple[str, ...] = ENGINEERS) -> None:
    """Engineers yank what they never meant, wherever it stands, and publish."""
    plant.wiring.releases.yank(path, plant.now())
    for name in signers:
        plant.wiring.releases.sign(name, plant.now())
    plant.wiring.releases.publish(plant.now())


def renew(plant: Plant, *roles: str) -> None:
    """Engineers sign these roles of the image repository anew, as their policy has them."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), renew=[("image", role) for role in roles])
    for name in ENGINEERS:
        repos.sign(name, plant.now())
    repos.publish(plant.now())


# -- the same store over HTTP --------------------------------------------------------------------
class _Served(dict[str, bytes]):
    """The files of a folder as they are now."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def get(self, name: str, default: Any = None) -> Any:
        path = self._folder / name
        return path.read_bytes() if path.is_file() else default


@contextlib.contextmanager
def served(plant: Plant, device: str = "a", **limits: float) -> Iterator[WebStore]:
    """The device reads the plant's store over HTTP, with these ``[limits]``."""
    with webstore() as server:
        server.objects = _Served(plant.store)
        toml = plant[device].toml
        words = "".join(f"{key} = {value}\n" for key, value in limits.items())
        text = toml.read_text().replace(plant.url, server.url)
        toml.write_text(text.replace("[feed]", f"[limits]\n{words}[feed]", 1))
        yield server
