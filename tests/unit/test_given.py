"""A version number belongs to one content: drafts that were signed and discarded can not return."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from simulators.rotation import BOTH, KNOWN, Stage, fixtures
from simulators.signed import NOW, Signed

from ota.errors import Malformed, NotFound, NotPermitted, Refusal
from signing import layout
from signing.changes.ceremony import Pending


def two_bins(stage: Stage) -> None:
    """One release over two bins."""
    stage.append("image.toml", "\n[components.app]\nbins = 2\n")
    stage.change(*BOTH)


template, stage = fixtures(two_bins)


def waiting(place: Signed) -> Pending:
    found = place.repos.pending("image")
    assert found is not None
    return found


def versions(place: Signed) -> dict[str, int]:
    return {name: role.signed["version"] for name, role in waiting(place).roles.items()}


def draft(place: Signed, version: str = "2.0.0", content: bytes = b"two") -> str:
    """A release waits; the role that lists it."""
    place.releases.add(place.build(version, content), NOW)
    (name,) = waiting(place).roles
    return name


def test_a_discarded_draft_leaves_its_number_behind(stage: Stage) -> None:
    """Signed or not: the same change made again has the next one."""
    place = stage.place
    name = draft(place)
    first = versions(place)[name]
    place.repos.discard("image")
    draft(place)
    place.signed()
    place.repos.discard("image")
    draft(place, content=b"other")
    assert versions(place) == {name: first + 2}
    place.signed()
    assert place.releases.publish(NOW) == ["image"]


def test_a_draft_that_was_signed_and_is_edited_leaves_its_number_behind(stage: Stage) -> None:
    """While nobody has signed, the number stays; afterwards the new content has a new one."""
    place = stage.place
    name = draft(place)
    first = versions(place)[name]
    place.releases.yank("app/app-2.0.0.bin", NOW)
    assert versions(place)[name] == first
    place.repos.sign("targets-1", NOW)
    other = next(v for v in ("3.0.0", "3.0.1", "3.0.2", "3.0.3", "3.0.4") if homes(v) == name)
    place.releases.add(place.build(other), NOW)
    assert versions(place)[name] == first + 1


def homes(version: str) -> str:
    digest = hashlib.sha256(f"app/app-{version}.bin".encode()).digest()
    return f"app.-{digest[0] >> 7}"


def test_a_courier_can_not_serve_the_discarded_draft(stage: Stage) -> None:
    """As well signed as what was published, in the bin that the snapshot lists by version alone."""
    place = stage.place
    assert stage.wanted("gw-1") == ["app/app-1.0.0.bin"]
    listing = homes("1.0.0")
    bad = next(v for v in (f"6.6.{n}" for n in range(20)) if homes(v) == listing)
    assert draft(place, bad, b"evil") == listing
    place.signed()
    evil = waiting(place).finished()[listing]
    place.repos.discard("image")
    good = next(v for v in (f"7.0.{n}" for n in range(20)) if homes(v) == listing)
    place.released(good)
    file = stage.store._root / layout.image_metadata(
        f"{listed_version(stage, listing)}.{listing}.json"
    )
    honest = file.read_bytes()
    assert evil != honest
    file.write_bytes(evil)
    (held,) = stage.rooms["gw-2"].cycle(KNOWN, NOW).held
    assert isinstance(held.error, Refusal)
    assert held.error.code == "metadata-rollback"
    file.write_bytes(honest)
    assert stage.wanted("gw-2") == ["app/app-1.0.0.bin"]


def listed_version(stage: Stage, name: str) -> int:
    state = stage.place.repos.image().state(NOW)
    assert state is not None
    return state.version(name)


def test_nobody_signs_two_contents_under_one_number(stage: Stage, tmp_path: Path) -> None:
    """Two machines draft at once; a third signs one, is told so of the other, and how to go on."""
    ana, cem = stage.place, stage.copied(tmp_path / "cem").place
    ben = stage.copied(tmp_path / "ben").place
    name = draft(ana, content=b"ana's")
    assert draft(cem, content=b"cem's") == name
    ben.repos.adopt(ana.repos.export())
    ben.repos.sign("targets-1", NOW)
    ben.repos.adopt(cem.repos.export(), replace=True)
    before = waiting(ben)
    with pytest.raises(NotPermitted) as caught:
        ben.repos.sign("targets-1", NOW)
    assert (caught.value.code, caught.value.exit_code) == ("signed-before", 4)
    assert waiting(ben) == before
    cem.repos.discard("image")
    draft(cem, content=b"cem's")
    ben.repos.adopt(cem.repos.export(), replace=True)
    ben.repos.sign("targets-1", NOW)
    assert waiting(ben).roles[name].signatures


def test_what_was_signed_elsewhere_is_known_here_once_it_was_seen(
    stage: Stage, tmp_path: Path
) -> None:
    """Imported signatures count like one's own: the next draft goes past them."""
    ben = stage.copied(tmp_path / "ben").place
    name = draft(ben, content=b"ben's")
    ben.repos.sign("targets-1", NOW)
    stage.place.repos.adopt(ben.repos.export())
    stage.place.repos.pending_path("image").unlink()
    draft(stage.place, content=b"ana's")
    assert versions(stage.place)[name] == versions(ben)[name] + 1


def test_signing_twice_is_nothing_and_a_root_is_left_out(stage: Stage) -> None:
    """The same content may be signed by others, and again; roots follow one another anyway."""
    stage.edit("image.toml", '"root-2"', '"root-4"')
    stage.place.repos.change(NOW)
    stage.sign("root-1", "root-1", "root-3")
    stage.place.repos.discard("image")
    stage.place.repos.change(NOW)
    assert versions(stage.place)["root"] == 2
    stage.sign("root-1", "root-3")
    assert stage.place.repos.publish(NOW) == ["image"]


@pytest.mark.parametrize("data", [b"[]", b'{"app": {"x": "y"}}', b"{", b'{"app": {"1": 2}}'])
def test_a_broken_record_is_named(stage: Stage, data: bytes) -> None:
    """Nothing is signed on a guess."""
    draft(stage.place)
    path = stage.place.folder / "state" / "given" / "image.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(Malformed, match=r"given/image\.json"):
        stage.place.repos.sign("targets-1", NOW)
    assert not waiting(stage.place).roles.popitem()[1].signatures


def test_a_change_that_can_not_be_read_is_still_discarded(stage: Stage) -> None:
    """Its numbers are unknown then, and nobody's."""
    draft(stage.place)
    stage.place.repos.pending_path("image").write_bytes(b"{")
    assert stage.place.repos.discard("image")
    with pytest.raises(NotFound):
        stage.place.repos.sign("targets-1", NOW)
