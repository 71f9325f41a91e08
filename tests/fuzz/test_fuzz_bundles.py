"""Changes that travel between keyholders: reviewed in plain words, or refused and nothing taken."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, dumps, mutated
from simulators.signed import NOW, Signed, replaced

from ota.errors import OtaError
from ota.repositories import repostatus
from ota.repositories.repo import Repositories, lacking
from ota.stores.directory import DirectoryStore
from signing.changes import bundle

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-bundles-"))


def _place() -> Signed:
    """Published; a rotation of the root, a release and a component's keyholder wait, half signed."""
    place = Signed(_FOLDER / "workspace").created()
    place.released("1.0.0")
    metadata = place.folder / "repo-metadata"
    edit = replaced('"root-2"', '"root-4"')
    for name in ("image.toml", "director.toml"):
        text = (metadata / name).read_text()
        (metadata / name).write_text(edit(text) if name == "image.toml" else text)
    place.reload()
    place.repos.change(NOW)
    place.releases.add(place.build("2.0.0"), NOW)
    place.repos.sign("root-1", NOW)
    place.repos.sign("targets-1", NOW)
    return place


PLACE = _place()
BUNDLE = PLACE.repos.export()
DOCUMENT = json.loads(BUNDLE)
PLACE.repos.discard("image")
FIRST = Signed(_FOLDER / "first")
FIRST.repos.create(NOW)
FIRST.repos.sign("root-1", NOW)
OTHER = FIRST.repos.export()


def repositories(folder: Path) -> Repositories:
    """Another keyholder's machine: the policies, public keys and roots, and no store."""
    shutil.copytree(PLACE.folder / "repo-metadata", folder / "repo-metadata")
    return Repositories(folder, PLACE.policy, DirectoryStore(folder / "store"), PLACE.signer)


def taken(data: bytes) -> bool:
    """Import on a fresh machine, look, sign, hand on; False when it was refused whole."""
    with tempfile.TemporaryDirectory() as folder:
        repos = repositories(Path(folder))
        try:
            found = repos.adopt(data)
        except OtaError as error:
            assert error.code
            waiting = Path(folder) / "state" / "pending"
            assert not waiting.exists() or not list(waiting.iterdir())
            return False
        assert found
        for pending in repostatus.pending(repos):
            words = [*pending.summary, *pending.missing.values()]
            assert all(word.isprintable() for word in words)
        for change in found.values():
            assert set(lacking(change)) <= set(change.roles)
        signs(repos)
        for change in bundle.load(repos.export()):
            assert change.roles
    return True


def signs(repos: Repositories) -> None:
    """A keyholder signs what is shown, and publishing says what is missing: typed errors at most."""
    try:
        repos.sign("root-3", NOW)
        repos.sign("targets-2", NOW)
        repos.publish(NOW)
    except OtaError as error:
        assert error.code


def test_the_example_is_taken() -> None:
    """What the examples begin with is a whole change."""
    assert taken(BUNDLE)


@budget(1)
@given(mutated(DOCUMENT))
def test_mutated(document: Any) -> None:
    """Roles, needs, signatures, texts of before, uploads: any of them changed."""
    taken(dumps(document))


@budget(0.7)
@given(damaged(BUNDLE, others=OTHER))
def test_damaged_bytes(data: bytes) -> None:
    """A stick that was pulled out too early."""
    taken(data)


@budget(0.7)
@given(st.data())
def test_a_waiting_file_that_was_edited(data: st.DataObject) -> None:
    """``state/pending/image.json`` itself: read, or ``Malformed`` with its name and a way out."""
    (change,) = DOCUMENT["changes"]
    with tempfile.TemporaryDirectory() as folder:
        repos = repositories(Path(folder))
        path = repos.pending_path("image")
        path.parent.mkdir(parents=True)
        written = dumps(data.draw(mutated(change)))
        path.write_bytes(written)
        try:
            repostatus.pending(repos)
            signs(repos)
        except OtaError as error:
            assert error.code
            assert path.read_bytes() == written
            assert repos.discard("image")
