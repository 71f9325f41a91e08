"""The store as operators read it: every metadata file of both repositories, changed or signed anew.

Whatever lies there, each command that reads it ends in what was signed or in a typed error, the
workspace's memory moves only to what verifies, and with the honest file back everything works.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, dumps, mutated
from simulators.signed import NOW, Signed, assignment
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata

from ota.cli import output
from ota.errors import OtaError
from ota.repositories import looking, refreshing, repostatus
from ota.repositories.catalogue import StoreCatalogue
from ota.repositories.director import DirectorDesk
from ota.repositories.repo import Repositories
from ota.rollout.authority import usable
from ota.stores.directory import DirectoryStore
from signing import strict
from signing.memory import Memory

BROKEN = (RepositoryError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-store-"))


def _place() -> Signed:
    """Published, with a second release and one device that is assigned the first."""
    place = Signed(_FOLDER / "workspace").created()
    first = place.released("1.0.0")
    place.released("2.0.0")
    place.desk.register("gw-1", NOW)
    approved = place.authorised(place.plan(first, None, "gw-1"))
    place.desk.assign(approved, "gw-1", assignment(first), NOW)
    return place


PLACE = _place()
LISTED = ["app/app-1.0.0.bin", "app/app-2.0.0.bin"]
ORDER = "ota-app-2-x7k2m9-u1-w0-b0"
PEOPLE = ("targets-1", "targets-2", "targets-3")
KEYS = {
    "image/metadata/timestamp.json": ("image-online",),
    "image/metadata/snapshot.json": ("image-online",),
    "image/metadata/targets.json": PEOPLE,
    "image/metadata/app.json": PEOPLE,
    "director/devices/gw-1/timestamp.json": ("director-online",),
    "director/devices/gw-1/snapshot.json": ("director-online",),
    "director/devices/gw-1/targets.json": ("director-online",),
}
ROLES = sorted(KEYS)


def _newest(role: str) -> str:
    folder, _, name = role.rpartition("/")
    found = {p.name: p for p in (PLACE.folder / "store" / folder).glob(f"*{name}")}
    if name in found:
        return role
    numbered = [n for n in found if n.partition(".")[2] == name]
    return f"{folder}/{max(numbered, key=lambda n: int(n.partition('.')[0]))}"


NAMES = {role: _newest(role) for role in ROLES}
HONEST = {role: (PLACE.folder / "store" / name).read_bytes() for role, name in NAMES.items()}


class Operator:
    """A copy of the workspace, for one example."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = DirectoryStore(folder / "store")
        self.repos = Repositories(folder, PLACE.policy, self.store, PLACE.signer)

    def write(self, name: str, data: bytes) -> None:
        """Somebody with write access to the bucket."""
        path = self.folder / "store" / name
        path.chmod(0o644)
        path.write_bytes(data)

    def memory(self) -> dict[str, bytes]:
        """What the workspace has seen of the image repository."""
        folder = self.folder / "state" / "seen" / "image"
        return {p.name: p.read_bytes() for p in sorted(folder.glob("*.json"))}

    def looks(self) -> dict[str, Any]:
        """Every way of reading; a typed error in place of an answer."""
        memory = Memory(self.folder / "state" / "seen" / "image")
        anchor = self.repos.anchor
        catalogue = StoreCatalogue(
            PLACE.policy, self.store, lambda: anchor("image"), lambda: NOW, memory
        )
        desk = DirectorDesk(self.repos.director(), self.repos.publisher)

        def listed() -> list[str]:
            return sorted(catalogue.releases())

        def approvers() -> int:
            found = catalogue.approvers()
            assert usable([], found, NOW) == []
            found.author_keys()
            return len(found.approver_keys())

        ways: dict[str, Any] = {
            "status": lambda: len(repostatus.status(self.repos, NOW).roles),
            "listed": listed,
            "approvers": approvers,
            "assigned": lambda: [a.order for a in desk.assignments("gw-1").values()],
            "verify": lambda: [
                f for f in repostatus.verify(self.repos, self.repos.director(), NOW) if not f.ok
            ],
            "refresh": lambda: refreshing.refresh(self.repos, desk, PLACE.policy, NOW).problems,
            "use": lambda: looking.uses(desk, [LISTED[0]], ["gw-1"]),
        }
        return {name: answered(way) for name, way in ways.items()}


def answered(way: Any) -> Any:
    """The answer, or the typed error; both can be printed."""
    try:
        found = way()
    except OtaError as error:
        assert error.code
        f"{error} {error.subject} {error.remedy}".encode()
        return error
    text = output.record("table", {"found": found})
    assert all(c.isprintable() or c == "\n" for c in text)
    return found


@contextmanager
def operator() -> Iterator[Operator]:
    """A fresh copy."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        shutil.copytree(PLACE.folder, Path(folder) / "w")
        yield Operator(Path(folder) / "w")


with operator() as _sample:
    EXPECTED = _sample.looks()
assert EXPECTED["listed"] == LISTED
assert EXPECTED["assigned"] == [ORDER]
assert EXPECTED["verify"] == []
assert EXPECTED["refresh"] == {}


def courier(role: str, data: bytes) -> None:
    """One file changed: answers as signed or typed errors; healed, all answers are back."""
    with operator() as place:
        place.looks()
        before = place.memory()
        place.write(NAMES[role], data)
        found = place.looks()
        for name in ("listed", "approvers", "assigned", "use"):
            assert isinstance(found[name], OtaError) or found[name] == EXPECTED[name], name
        assert set(place.memory()) == set(before)
        place.write(NAMES[role], HONEST[role])
        assert place.looks() == EXPECTED


@pytest.mark.parametrize("role", ROLES)
@budget(0.08)
@given(st.data())
def test_damaged_bytes(role: str, data: st.DataObject) -> None:
    """Flipped, cut, joined with another file."""
    others = HONEST["image/metadata/snapshot.json"]
    courier(role, data.draw(damaged(HONEST[role], others=others)))


@pytest.mark.parametrize("role", ROLES)
@budget(0.12)
@given(st.data())
def test_mutated_and_not_signed(role: str, data: st.DataObject) -> None:
    """Any change of structure, signatures and what stands beside them included."""
    courier(role, dumps(data.draw(mutated(json.loads(HONEST[role])))))


def resigned(role: str, signed: Any) -> bytes:
    """Under the role's own keys; what is no metadata at all nothing can sign."""
    data = dumps({"signatures": [], "signed": signed})
    try:
        parsed: Metadata[Any] = Metadata.from_bytes(data)
        for name in KEYS[role]:
            parsed.sign(PLACE.keys[name], append=True)
    except BROKEN:
        return data
    pairs = [{"keyid": k, "sig": s.signature} for k, s in parsed.signatures.items()]
    return dumps({"signatures": pairs, "signed": signed})


@pytest.mark.parametrize("role", ROLES)
@budget(0.25)
@given(st.data())
def test_mutated_and_signed_again(role: str, data: st.DataObject) -> None:
    """Keyholders who sign anything at all, listed honestly one level up: typed errors at most."""
    folder, _, file = role.rpartition("/")
    written = resigned(role, data.draw(mutated(json.loads(HONEST[role])["signed"])))
    changed = {role: written}
    above = {"timestamp.json": (), "snapshot.json": ("timestamp",)}
    for parent in above.get(file, ("snapshot", "timestamp")):
        body = json.loads(HONEST[f"{folder}/{parent}.json"])["signed"]
        listed = body["meta"]["snapshot.json" if parent == "timestamp" else file]
        listed |= {"length": len(written), "hashes": {"sha256": strict.digest(written)}}
        written = resigned(f"{folder}/{parent}.json", body)
        changed[f"{folder}/{parent}.json"] = written
    with operator() as place:
        shutil.rmtree(place.folder / "state" / "seen", ignore_errors=True)
        for name, content in changed.items():
            place.write(NAMES[name], content)
        place.looks()
        place.looks()


APPROVERS = json.loads(
    next((PLACE.folder / "store" / "image" / "targets" / "workspace").iterdir()).read_bytes()
)


@budget(0.4)
@given(mutated(APPROVERS))
def test_approvers_that_are_none(body: Any) -> None:
    """The signed list of approvers says anything at all: keys that are keys, or a refusal."""
    written = dumps(body)
    sha256 = hashlib.sha256(written).hexdigest()
    role = "image/metadata/targets.json"
    targets = json.loads(HONEST[role])["signed"]
    path = "workspace/approvers.json"
    targets["targets"][path] |= {"length": len(written), "hashes": {"sha256": sha256}}
    data = resigned(role, targets)
    with operator() as place:
        shutil.rmtree(place.folder / "state" / "seen", ignore_errors=True)
        place.write(NAMES[role], data)
        for parent in ("snapshot", "timestamp"):
            above = f"image/metadata/{parent}.json"
            signed = json.loads(HONEST[above])["signed"]
            listed = signed["meta"]["targets.json" if parent == "snapshot" else "snapshot.json"]
            listed |= {"length": len(data), "hashes": {"sha256": strict.digest(data)}}
            data = resigned(above, signed)
            place.write(NAMES[above], data)
        (
            place.folder / "store" / "image" / "targets" / "workspace" / f"{sha256}.approvers.json"
        ).write_bytes(written)
        found = place.looks()
        assert isinstance(found["approvers"], (int, OtaError))
        assert found["listed"] == LISTED or isinstance(found["listed"], OtaError)
