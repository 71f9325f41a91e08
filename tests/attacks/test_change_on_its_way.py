"""A waiting change edited on its way: by who carries it, or by one of those who are to sign it.

A change travels between people as a file. What keyholders sign in it is bound by their signatures,
so whoever edits that is seen by the others: they read the difference in words. What they do not
sign must not decide anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from securesystemslib.signer import CryptoSigner, Key
from simulators import plantplaybooks
from simulators.plant import Plant
from simulators.threats import ENGINEERS, ROOTS, honest
from tuf.api.metadata import Root, TargetFile, Targets

from ota.errors import Malformed
from ota.playbook import source
from ota.repositories.opened import Repository
from signing import layout, strict
from signing.approval import APPROVERS_PATH
from signing.changes import bundle, ceremony
from signing.changes.ceremony import Needs, Pending
from signing.enrolment import key_to_dict
from signing.playbooks import playbook as playbooks
from signing.playbooks import target as playbook_target

Edit = Callable[[Pending], Pending]
FAR = datetime.fromisoformat("9999-12-31T23:59:59Z")


def refused(
    plant: Plant,
    edit: Edit,
    words: str,
    repository: Repository = "image",
    signers: Sequence[str] = ENGINEERS,
) -> None:
    """Nobody takes it from the stick, nobody signs it, and nothing of it can be published."""
    repos = plant.wiring.repositories
    (pending,) = bundle.load(repos.export(repository))
    lie, path = edit(pending), repos.pending_path(repository)
    before = {p: p.read_bytes() for p in plant.store.rglob("*") if p.is_file()}
    with pytest.raises(Malformed, match=words):
        repos.adopt(bundle.dump([lie]), replace=True)
    assert repos.pending(repository) == pending
    ceremony.save(path, lie)
    with pytest.raises(Malformed, match=words):
        repos.sign(signers[0], plant.now())
    for name in signers:
        lie, _ = ceremony.add_signature(lie, plant.wiring.keyring.signer(name))
    ceremony.save(path, lie)
    with pytest.raises(Malformed, match=words):
        repos.publish(plant.now())
    ceremony.save(path, pending)
    assert {p: p.read_bytes() for p in plant.store.rglob("*") if p.is_file()} == before


def published(plant: Plant, *signers: str) -> None:
    """The honest change, after all."""
    repos = plant.wiring.repositories
    for name in signers:
        repos.sign(name, plant.now())
    repos.publish(plant.now())


# -- the carrier: what no keyholder signs ----------------------------------------------------------
LIFTS: dict[str, dict[str, Any]] = {
    "snapshot and timestamp, to where nobody can follow": {"above": (10**9 - 2, 10**9 - 2)},
    "them a little, so that the workspace forgets what it saw": {"above": (1, 1)},
    "names that nobody ever had": {"dormant": {f"role-{n}": 2**40 for n in range(1000)}},
    "a component that is in use": {"dormant": {"mcu": 10**6}},
}


@pytest.mark.parametrize("what", LIFTS)
def test_it_can_not_lift_versions(plant: Plant, what: str) -> None:
    """Online keys sign what a change says of snapshot and timestamp; targets must have said it."""
    plant.wiring.releases.add(plant.build("4.0.0"), plant.now())
    refused(plant, lambda p: msgspec.structs.replace(p, **LIFTS[what]), "lifts other versions")
    published(plant, *ENGINEERS)
    honest(plant, version="4.0.0")


@pytest.mark.parametrize("lie", [{"above": (10**9 - 2, 9)}, {"dormant": {}}, {"above": (0, 0)}])
def test_nor_other_versions_than_were_signed(plant: Plant, lie: dict[str, Any]) -> None:
    """A change that lifts honestly, after a restored backup, says in targets how far, and to people."""
    repos = plant.wiring.repositories
    honest_change = repos.image().bump(5, {"app.-0": 7, "timestamp": 40}, plant.now())
    repos.replace(honest_change)
    words = repos.review(honest_change)
    assert any(line.endswith("timestamp above 45") for line in words), words
    assert any("1 roles that are no more, up to version 12" in line for line in words), words
    refused(plant, lambda p: msgspec.structs.replace(p, **lie), "lifts other versions")
    published(plant, *ENGINEERS)
    honest(plant)


def test_it_can_not_add_signatures_of_strangers(plant: Plant) -> None:
    """Who may sign is what waits here, whatever keys the bundle asks for."""
    repos = plant.wiring.repositories
    plant.wiring.releases.add(plant.build("4.0.0"), plant.now())
    (pending,) = bundle.load(repos.export("image"))
    stranger = CryptoSigner.generate_ed25519()
    (need,) = pending.roles["app"].needs
    wider = Needs.of([*need.by_id().values(), stranger.public_key], need.threshold)
    role = msgspec.structs.replace(pending.roles["app"], needs=(wider,))
    lie = msgspec.structs.replace(pending, roles={"app": role})
    for signer in (stranger, plant.wiring.keyring.signer("targets-3")):
        lie, _ = ceremony.add_signature(lie, signer)
    merged = repos.adopt(bundle.dump([lie]))["image"].roles["app"]
    third = plant.wiring.keyring.signer("targets-3").public_key.keyid
    assert set(merged.signatures) == {third}
    published(plant, "targets-1")
    honest(plant, version="4.0.0")


KEYS = (
    ("image", "root", "targets"),
    ("image", "root", "timestamp"),
    ("director", "root", "targets"),
    ("image", "targets", "app"),
)
"""Repository, the role of the change, and whose keys it names."""


@pytest.mark.parametrize(("repository", "role", "whose"), KEYS)
def test_it_can_not_put_its_key_under_a_keyholders_id(
    plant: Plant, repository: Repository, role: str, whose: str
) -> None:
    """An id is only a name: the others would read that nothing changes, and sign a stranger's key."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), repository, [(repository, role)])

    def swapped(signed: Root | Targets) -> None:
        by = signed if isinstance(signed, Root) else signed.delegations
        assert by is not None
        assert by.roles is not None
        for keyid in by.roles[whose].keyids:
            stranger = CryptoSigner.generate_ed25519().public_key
            by.keys[keyid] = Key.from_dict(keyid, stranger.to_dict())

    signers = ROOTS[repository] if role == "root" else ENGINEERS
    refused(plant, lambda p: edited(p, role, swapped), "its id is not", repository, signers)
    published(plant, *signers)
    honest(plant)


@pytest.mark.parametrize("role", ["targets", "app"])
def test_it_can_not_pass_a_removal_off_as_something_new(plant: Plant, role: str) -> None:
    """What replaces something is compared with it, also where the file says that there was nothing."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), "image", [("image", role)])

    def emptied(signed: Targets) -> None:
        signed.targets.clear()

    def new(pending: Pending) -> Pending:
        lie = edited(pending, role, emptied)
        waits = {role: msgspec.structs.replace(lie.roles[role], base=0)}
        before = {n: text for n, text in lie.before.items() if n != role}
        return msgspec.structs.replace(lie, roles=waits, before=before)

    with pytest.raises(Malformed, match="comes without what it replaces"):
        repos.review(new(repos.pending("image")))  # type: ignore[arg-type]  # there is one
    published(plant, *ENGINEERS)
    honest(plant)


@pytest.mark.parametrize("repository", ROOTS)
def test_it_can_not_have_a_second_root_of_one_number_signed(
    plant: Plant, repository: Repository
) -> None:
    """Beside one that is known here, not even on a machine without a store to ask."""
    repos, signers = plant.wiring.repositories, ROOTS[repository]
    repos.change(plant.now(), repository, [(repository, "root")])
    first = repos.pending(repository)
    assert first is not None
    published(plant, *signers)
    assert repos.review(first), "what a killed publish left behind is still read"
    other = edited(first, "root", lambda root: root.unrecognized_fields.update(note="another"))
    with pytest.raises(Malformed, match="the newest here is 2"):
        repos.review(other)
    honest(plant)


# -- one of those who sign: what the others must see -----------------------------------------------
def edited(pending: Pending, name: str, edit: Callable[[Any], None], **more: Any) -> Pending:
    """The same change with the content of one role edited."""
    role = pending.signed(name)
    edit(role)
    waits = ceremony.waiting(role, pending.roles[name].base, *pending.roles[name].needs)
    return msgspec.structs.replace(pending, roles=pending.roles | {name: waits}, **more)


def shown(plant: Plant, edit: Edit) -> tuple[str, ...]:
    """What the other keyholders read before they sign."""
    repos = plant.wiring.repositories
    pending = repos.pending("image")
    assert pending is not None
    return repos.review(edit(pending))


@dataclass(frozen=True)
class _Ends:
    """An expiry slipped into a role."""

    role: str
    at: datetime

    def __call__(self, pending: Pending) -> Pending:
        def ends(role: Root | Targets) -> None:
            role.expires = self.at

        return edited(pending, self.role, ends)


@pytest.mark.parametrize("soon", [True, False], ids=["soon", "never"])
@pytest.mark.parametrize("role", ["root", "targets", "app"])
def test_an_expiry_is_seen(plant: Plant, role: str, soon: bool) -> None:
    """One that ends in an hour stops the fleet, one that never ends outlives its keys."""
    policy = plant.workspace / "repo-metadata" / "image.toml"
    policy.write_text(policy.read_text().replace('"root-3"]', '"root-3", "targets-3"]', 1))
    plant.reopen()
    plant.wiring.releases.add(plant.build("4.0.0"), plant.now())
    plant.wiring.repositories.change(plant.now(), "image", [("image", role)])
    at = (plant.now() + timedelta(hours=1)).replace(microsecond=0) if soon else FAR
    said = [line for line in shown(plant, _Ends(role, at)) if line.startswith(f"{role}: ")]
    assert any(f"until {strict.stamp(at)}" in line for line in said), said


def test_who_approves_plans_is_seen(plant: Plant) -> None:
    """Targets lists them by a hash; whoever signs that reads their names, and unknown ones stand out."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), "image", [("image", "targets")])
    mine = plant.wiring.keyring.signer("targets-1").public_key
    evil = key_to_dict(type(mine).from_dict(mine.keyid, mine.to_dict()))
    stranger = evil | {"scheme": "ed25519", "keyval": {"public": "ab" * 32}}
    stranger["keyid"] = strict.digest(
        strict.canonical({k: v for k, v in stranger.items() if k != "keyid"})
    )
    data = strict.compact(
        {"schema": 1, "threshold": 1, "authors": [evil], "approvers": [evil, stranger]}
    )
    sha256 = strict.digest(data)

    def mine_alone(top: Targets) -> None:
        target = top.targets[APPROVERS_PATH]
        target.hashes, target.length = {"sha256": sha256}, len(data)

    name = layout.image_target(APPROVERS_PATH, sha256)
    words = shown(plant, lambda p: edited(p, "targets", mine_alone, files={name: data.decode()}))
    said = f"approved by 1 of targets-1, unknown key {stranger['keyid'][:12]}"
    assert words[0] == f"targets: plans are written by targets-1, {said}"
    with pytest.raises(Malformed, match="comes without its content"):
        shown(plant, lambda p: edited(p, "targets", mine_alone))
    repos.discard("image")
    honest(plant)


def test_the_root_is_read_by_its_holders_as_well(plant: Plant) -> None:
    """The same words for roots: nobody signs an hour's root among a new keyholder."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), "director", [("director", "root")])
    pending = repos.pending("director")
    assert pending is not None
    lie = _Ends("root", FAR)(pending)
    assert any(strict.stamp(FAR) in line for line in repos.review(lie))
    repos.discard("director")
    honest(plant)


def test_nothing_that_is_said_hides_what_else_is_said(plant: Plant) -> None:
    """No padding that wraps into lines of its own, no text without end; what matters comes first."""
    repos = plant.wiring.repositories
    repos.change(plant.now(), "image", [("image", "targets"), ("image", "app")])
    fake = "targets: version 3 -> 4; nothing else changes"

    def padded(top: Targets) -> None:
        top.unrecognized_fields["note"] = f"x{' ' * 500}{chr(0x2800) * 500}{fake}{'y' * 10**6}"

    def crowded(role: Targets) -> None:
        some = next(iter(role.targets.values())).to_dict()
        for number in range(3000):
            path = f"app/a{number}.bin"
            role.targets[path] = TargetFile.from_dict(deepcopy(some), path)
        role.unrecognized_fields["release_counter"] = 99

    words = shown(plant, lambda p: edited(edited(p, "targets", padded), "app", crowded))
    (note,) = [line for line in words if "note" in line]
    assert len(note) < 1100
    assert "  " not in note
    assert note.isascii()
    at = [n for n, line in enumerate(words) if "release_counter 1 becomes 99" in line]
    assert at
    assert at[0] < 10, "before the releases"
    assert words[-1].startswith("... and ")


@pytest.mark.parametrize(
    ("field", "value"), [("format", "tar"), ("notes", "as before"), ("hardware_ids", ["gw-rev-z"])]
)
def test_a_release_that_is_described_anew_stands_out(
    plant: Plant, field: str, value: object
) -> None:
    """What was listed before is no new release: each field of it that differs is said."""
    plant.wiring.releases.add(plant.build("4.0.0"), plant.now())
    path = "app/app-1.0.0.bin"

    def anew(role: Targets) -> None:
        role.targets[path].unrecognized_fields["custom"][field] = value

    words = shown(plant, lambda p: edited(p, "app", anew))
    (line,) = [line for line in words if path in line]
    assert line.startswith(f"app: CHANGES {path}: {field} ")
    assert line in words[:2], "before what is new"


HELLO = """\
name: hello
version: {version}
summary: Say hello
platforms: [linux]
steps:
  - name: say
    exec: {{argv: [{program}]}}
"""


def test_a_playbook_whose_text_is_exchanged_is_read_anew(plant: Plant) -> None:
    """Every command that will run is read before it is signed, also under a name that is known."""
    plantplaybooks.publish(plant, HELLO.format(version="1.0.0", program="/bin/true"))
    text = HELLO.format(version="1.1.0", program="/bin/true")
    plant.wiring.library.add(source.read(text.encode()), plant.now())
    evil = source.read(HELLO.format(version="1.0.0", program="/bin/evil").encode())
    data = playbooks.encode(evil)

    def exchanged(pending: Pending) -> Pending:
        def swap(role: Targets) -> None:
            role.targets[evil.path] = playbook_target.describe(evil).to_target()

        name = layout.image_target(evil.path, strict.digest(data))
        files = pending.files | {name: data.decode()}
        return edited(pending, "playbooks", swap, files=files)

    words = shown(plant, exchanged)
    assert any("CHANGES playbooks/hello-1.0.0.json" in line for line in words)
    assert any("/bin/evil" in line for line in words), words
