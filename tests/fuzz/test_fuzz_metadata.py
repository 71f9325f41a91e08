"""Metadata of every role of both repositories, as a courier or as a thief of its key may serve it.

*Not signed again*: bytes and structure change on the way. What the device then believes is what
was signed, or it refuses and forgets nothing; and as soon as the store is honest again, it works.

*Signed again*: the holder of a role's key signs anything at all, and lists it honestly one level
up. The device ends each look with a typed error or with a release that both repositories list
for it; a refused director leaves the trusted set as it was.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, copied, damaged, dumps, mutated
from simulators.repos import NOW, Repo, World, assignment_target, meta
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from ota.agent.time import EPOCH
from ota.agent.trust import Cycle, Known, TrustRoom
from signing.errors import OtaError, Outage, Refusal, Stale
from signing.refusals import REFUSALS

BROKEN = (RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
ROLES = (
    *(("director", role) for role in ("root", "timestamp", "snapshot", "targets")),
    *(("image", role) for role in ("root", "timestamp", "snapshot", "targets", "app")),
)
IDS = ["-".join(pair) for pair in ROLES]
KNOWN = Known(committed={}, floors={"app": 1}, denied={}, clock_floor=EPOCH)


def _worlds() -> World:
    """A device that has seen one release, and is offered another under new roots."""
    world = World()
    world.release("app/app-1.bin", b"one")
    world.assign("app/app-1.bin")
    return world


WORLD = _worlds()
TEMPLATE = Path(tempfile.mkdtemp(prefix="fuzz-metadata-"))


def room(folder: Path, director: dict[str, bytes], image: dict[str, bytes]) -> TrustRoom:
    """A device over these files."""
    return TrustRoom(
        WORLD.device,
        {"app": "gw-rev-b"},
        folder,
        lambda name, _limit: director.get(name),
        lambda name, _limit: image.get(name),
    )


def _prepare() -> None:
    """What the device knows before each example; then the world moves on."""
    files = WORLD.director.files, WORLD.image.files
    first = room(TEMPLATE / "trust", dict(files[0]), dict(files[1]))
    first.provision(files[0]["1.root.json"], files[1]["1.root.json"])
    assert len(first.cycle(KNOWN, NOW).wanted) == 1
    for repo in (WORLD.director, WORLD.image):
        repo.publish_root()
    WORLD.release("app/app-2.bin", b"two")
    WORLD.director.targets.targets = {
        "app/app-2.bin": assignment_target(WORLD.listed("app/app-2.bin"))
    }
    WORLD.director.publish()


_prepare()
HONEST = {"director": dict(WORLD.director.files), "image": dict(WORLD.image.files)}


def newest(repository: str, role: str) -> str:
    """The file of a role that the device would fetch now."""
    if role == "timestamp":
        return "timestamp.json"
    names = (n for n in HONEST[repository] if n.partition(".")[2] == f"{role}.json")
    return max(names, key=lambda n: int(n.partition(".")[0]))


@dataclass
class Device:
    """One device for one example; ``folder`` is its trust."""

    folder: Path

    def look(self, **lies: dict[str, bytes]) -> Cycle | OtaError:
        """One cycle over the honest files with these lies among them."""
        served = {name: HONEST[name] | lies.get(name, {}) for name in HONEST}
        try:
            return room(self.folder, **served).cycle(KNOWN, NOW)
        except (Refusal, Stale, Outage) as error:
            assert not isinstance(error, Refusal) or error.code in REFUSALS
            return error

    def state(self, repository: str) -> dict[str, bytes]:
        """The adopted set."""
        current = self.folder / repository / "current"
        return {path.name: path.read_bytes() for path in sorted(current.iterdir())}

    def told(self) -> tuple[Any, Any]:
        """What its next report will say of versions; this must always work."""
        return room(self.folder, **HONEST).versions()

    def checked(self) -> None:
        """``ota-agent verify`` finds nothing wrong with what is kept."""
        room(self.folder, **HONEST).check()


@contextmanager
def device() -> Iterator[Device]:
    """A fresh copy of the device that knows the first release."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        shutil.copytree(TEMPLATE / "trust", Path(folder) / "trust", symlinks=True)
        yield Device(Path(folder) / "trust")


def meaning(found: Cycle) -> list[tuple[str, str]]:
    """What is to be installed."""
    return [(w.release.path, w.release.sha256) for w in found.wanted]


with device() as _sample:
    _found = _sample.look()
    assert isinstance(_found, Cycle)
    EXPECTED = meaning(_found)
assert [("app/app-2.bin", WORLD.listed("app/app-2.bin").hashes["sha256"])] == EXPECTED


def courier(repository: str, role: str, data: bytes) -> None:
    """Serve one changed file: believed as signed or refused; then heal."""
    with device() as gateway:
        before = gateway.state(repository)
        found = gateway.look(**{repository: {newest(repository, role): data}})
        gateway.told()
        gateway.checked()
        if isinstance(found, Cycle):
            assert [h.error.code for h in found.held] or meaning(found) == EXPECTED
        elif repository == "director" or role != "app":
            assert gateway.state(repository) == before, found.code
        again = gateway.look()
        assert isinstance(again, Cycle), again
        assert meaning(again) == EXPECTED
        gateway.told()
        gateway.checked()


@pytest.mark.parametrize(("repository", "role"), ROLES, ids=IDS)
@budget(0.25)
@given(st.data())
def test_damaged_bytes(repository: str, role: str, data: st.DataObject) -> None:
    """Flipped, cut, joined with another file."""
    honest = HONEST[repository][newest(repository, role)]
    other = "image" if repository == "director" else "director"
    courier(repository, role, data.draw(damaged(honest, others=HONEST[other]["timestamp.json"])))


@pytest.mark.parametrize(("repository", "role"), ROLES, ids=IDS)
@budget(0.35)
@given(st.data())
def test_mutated_and_not_signed(repository: str, role: str, data: st.DataObject) -> None:
    """Any change of structure, signatures and what stands beside them included."""
    honest = json.loads(HONEST[repository][newest(repository, role)])
    courier(repository, role, dumps(data.draw(mutated(honest))))


# -- signed again ------------------------------------------------------------------------------
def resigned(repo: Repo, role: str, signed: Any) -> bytes:
    """``signed`` under the role's own keys; where it is no metadata at all, nothing can sign it."""
    data = dumps({"signatures": [], "signed": signed})
    try:
        parsed: Metadata[Any] = Metadata.from_bytes(data)
        for signer in repo.signers[role]:
            parsed.sign(signer, append=True)
    except BROKEN:
        return data
    pairs = [{"keyid": k, "sig": s.signature} for k, s in parsed.signatures.items()]
    return dumps({"signatures": pairs, "signed": signed})


def thief(repository: str, role: str, signed: Any) -> dict[str, bytes]:
    """Files of one repository with one role changed, and every level above listing it honestly."""
    repo: Repo = getattr(WORLD, repository)
    data = resigned(repo, role, signed)
    files = {newest(repository, role): data}
    above = {"root": (), "timestamp": (), "snapshot": ("timestamp",)}
    for parent in above.get(role, ("snapshot", "timestamp")):
        file = newest(repository, parent)
        body = json.loads(HONEST[repository][file])["signed"]
        listed = body["meta"]["snapshot.json" if parent == "timestamp" else f"{role}.json"]
        listed |= meta(listed["version"], data).to_dict()
        data = resigned(repo, parent, body)
        files[file] = data
    return files


@pytest.mark.parametrize(("repository", "role"), ROLES, ids=IDS)
@budget(0.5)
@given(st.data())
def test_mutated_and_signed_again(repository: str, role: str, data: st.DataObject) -> None:
    """A thief of one role's key gets a typed error, or a release that both repositories list."""
    honest = json.loads(HONEST[repository][newest(repository, role)])["signed"]
    files = thief(repository, role, data.draw(mutated(honest)))
    listed = {(p, t.hashes["sha256"]) for p, t in WORLD.image.delegated["app"].targets.items()}
    with device() as gateway:
        before = {name: gateway.state(name) for name in HONEST}
        found = gateway.look(**{repository: files})
        gateway.told()
        gateway.checked()
        if isinstance(found, Cycle):
            assert repository == "image" or set(meaning(found)) <= listed
        elif repository == "director":
            assert gateway.state(repository) == before[repository], found.code
        gateway.look()
        gateway.told()
        gateway.checked()


def test_a_thief_lists_what_the_device_takes() -> None:
    """The chain that the examples sign is one that a device follows."""
    for repository, role in ROLES:
        honest = json.loads(HONEST[repository][newest(repository, role)])["signed"]
        files = thief(repository, role, copied(honest))
        with device() as gateway:
            found = gateway.look(**{repository: files})
        assert isinstance(found, Cycle), (repository, role, found)
        assert meaning(found) == EXPECTED
