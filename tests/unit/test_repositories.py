"""Status and verification of both repositories, and the operator's own roots."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from simulators.signed import NOW, SIGNERS, Signed

from ota.errors import Busy, Malformed, NotFound, NotPermitted, Refusal
from ota.repositories import repostatus
from ota.repositories.repo import repository_name
from signing import durable, strict


@pytest.fixture
def place(tmp_path: Path) -> Signed:
    place = Signed(tmp_path).created()
    place.released("1.0.0")
    for device in ("gw-1", "gw:2"):
        place.desk.register(device, NOW)
    return place


def faults(place: Signed) -> dict[str, str]:
    found = repostatus.verify(place.repos, place.repos.director(), NOW)
    return {f.name: f.code for f in found if not f.ok}


# -- status --------------------------------------------------------------------------------------
def test_status_names_roles_keyholders_and_what_waits(place: Signed) -> None:
    """Every role with its keyholders by name; the waiting change with who can still sign."""
    place.releases.add(place.build("2.0.0"), NOW)
    place.releases.sign("targets-2", NOW)
    found = repostatus.status(place.repos, NOW)
    rows = {(r.repository, r.role): r for r in found.roles}
    assert set(rows) == {
        ("image", "root"),
        ("image", "targets"),
        ("image", "snapshot"),
        ("image", "timestamp"),
        ("image", "app"),
        ("director", "root"),
    }
    assert rows["image", "app"].keyholders == ("targets-1", "targets-2", "targets-3")
    assert rows["image", "app"].threshold == 2
    assert {r.health for r in found.roles} == {"ok"}
    assert [p.missing for p in found.pending] == [
        {"app": "1 of 2 signed; can sign: targets-1, targets-3"}
    ]
    assert found.unfinished == ()


@pytest.mark.parametrize(
    ("days", "role", "health"),
    [(2, "timestamp", "ok"), (2.5, "timestamp", "soon"), (3, "timestamp", "expired"),
     (170, "app", "soon"), (181, "targets", "expired"), (300, "root", "soon")],
)  # fmt: skip
def test_status_warns_before_a_role_ends(
    place: Signed, days: float, role: str, health: str
) -> None:
    """``soon`` in the last quarter of a role's life: the field disaster everyone has had."""
    found = repostatus.status(place.repos, NOW + timedelta(days=days))
    assert {r.health for r in found.roles if (r.repository, r.role) == ("image", role)} == {health}


def test_status_before_anything_is_published(tmp_path: Path) -> None:
    """Two changes wait, no role is published."""
    place = Signed(tmp_path)
    assert repostatus.status(place.repos, NOW) == repostatus.Status((), (), ())
    place.repos.create(NOW)
    found = repostatus.status(place.repos, NOW)
    assert found.roles == ()
    assert [(p.repository, sorted(p.missing)) for p in found.pending] == [
        ("image", ["root", "targets"]),
        ("director", ["root"]),
    ]


# -- verify --------------------------------------------------------------------------------------
def test_a_whole_store_verifies(place: Signed) -> None:
    """Image metadata, every image, every device: one finding each, all well."""
    found = list(repostatus.verify(place.repos, place.repos.director(), NOW))
    assert all(f.ok for f in found)
    names = [f.name for f in found]
    assert names[0] == "image metadata"
    assert names[-2:] == ["director of gw-1", "director of gw:2"]
    assert sum(n.startswith("image/targets/") for n in names) == 2
    assert len(list(repostatus.verify(place.repos, None, NOW))) == len(found) - 2


def test_every_flipped_bit_is_found(place: Signed) -> None:
    """One bit in the middle of any current file of the store: ``verify`` names the fault."""
    old = {"image/metadata/1.snapshot.json", "image/metadata/1.targets.json"}
    names = [n for n in place.store.list("") if n not in old and not n.endswith("1.root.json")]
    assert len(names) == 12
    for name in names:
        path = place.folder / "store" / name
        before = path.read_bytes()
        data = bytearray(before)
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        assert faults(place), name
        path.write_bytes(before)
    assert faults(place) == {}


@pytest.mark.parametrize("how", ["gone", "cut", "longer"])
def test_a_damaged_image_is_named(place: Signed, how: str) -> None:
    """Missing, shorter or longer image bytes are found by hashing them."""
    name = next(n for n in place.store.list("image/targets/app/"))
    path = place.folder / "store" / name
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if how == "cut" else data + b"x")
    assert faults(place) == {name: "image-mismatch"}


def test_expired_repositories_are_stale_in_verify(place: Signed) -> None:
    """Verification asks for expiry, as a device does."""
    late = NOW + timedelta(days=31)
    found = repostatus.verify(place.repos, place.repos.director(), late)
    assert {f.code for f in found} == {"stale"}


def test_verifying_what_was_never_published_says_so(tmp_path: Path) -> None:
    """An empty store is not a verified one."""
    found = list(repostatus.verify(Signed(tmp_path).repos, None, NOW))
    assert [f.code for f in found] == ["not-found"]


# -- the operator's own roots --------------------------------------------------------------------
def test_roots_are_kept_in_the_workspace(place: Signed) -> None:
    """The anchors are the published bytes, and name the workspace for plans."""
    for name, where in (("image", "image/metadata"), ("director", "director/root")):
        anchors = place.repos.anchors(name)  # type: ignore[arg-type]  # both are repositories
        assert anchors == {1: place.store.get(f"{where}/1.root.json", 1 << 20)}
    workspace = place.repos.workspace()
    assert workspace.image_root == strict.digest(place.repos.anchors("image")[1])
    assert workspace.director_root == strict.digest(place.repos.anchors("director")[1])


def test_a_workspace_without_roots_has_no_name(tmp_path: Path) -> None:
    """Nothing can be planned or directed before the roots are published."""
    place = Signed(tmp_path)
    for call in (place.repos.workspace, place.repos.director):
        with pytest.raises(NotFound) as caught:
            call()
        assert "ota repo create" in caught.value.remedy


def test_a_tampered_anchor_is_refused(place: Signed) -> None:
    """A root in the workspace that does not verify by itself opens nothing."""
    path = place.folder / "repo-metadata" / "roots" / "image" / "1.root.json"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"threshold":2', b'"threshold":1', 1))
    with pytest.raises(Refusal) as caught:
        place.releases.listing(NOW)
    assert caught.value.code == "signature"


def test_files_that_are_no_roots_are_ignored(place: Signed) -> None:
    """Editors leave files behind; only N.root.json counts, and by its number."""
    folder = place.folder / "repo-metadata" / "roots" / "image"
    for name in ("0.root.json", "x.root.json", "1.root.json~", "root.json", ".2.root.json"):
        (folder / name).write_bytes(b"junk")
    assert list(place.repos.anchors("image")) == [1]


# -- two operators -------------------------------------------------------------------------------
def test_two_commands_in_one_workspace_do_not_mix(place: Signed) -> None:
    """The second one is told (exit 7), and nothing is lost."""
    with durable.locked(place.folder / "state" / ".repo.lock"):
        with pytest.raises(Busy) as caught:
            place.releases.add(place.build("3.0.0"), NOW)
        assert caught.value.exit_code == 7
    assert place.repos.pending("image") is None


def test_the_director_can_be_published_after_the_image_repository(tmp_path: Path) -> None:
    """Publishing goes repository by repository when asked to; image first otherwise."""
    place = Signed(tmp_path)
    place.repos.create(NOW)
    for name in SIGNERS[:4]:
        place.repos.sign(name, NOW)
    assert place.repos.publish(NOW, "image") == ["image"]
    for name in SIGNERS[4:]:
        place.repos.sign(name, NOW, "director")
    assert place.repos.publish(NOW, "director") == ["director-root"]
    with pytest.raises(NotPermitted):
        place.repos.create(NOW)


@pytest.mark.parametrize("name", ["", "images", "Image", "../image"])
def test_repository_names_are_two(name: str) -> None:
    """image, director, nothing else."""
    assert repository_name("image") == "image"
    with pytest.raises(Malformed):
        repository_name(name)
