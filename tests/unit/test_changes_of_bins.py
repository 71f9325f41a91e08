"""Changes of hash bins that lie, refused before anybody signs or before anything is published."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import msgspec
import pytest
from simulators.rotation import BOTH, Stage, fixtures
from simulators.signed import NOW
from tuf.api.metadata import DelegatedRole, Delegations, Targets

from ota.errors import Malformed, OtaError, Refusal
from signing import bins, shared
from signing.changes import ceremony, lifting
from signing.changes.ceremony import Needs, Pending


def two_bins(stage: Stage) -> None:
    """Two bins with a release in each; 1.0.0 is assigned."""
    stage.list_more(*(f"1.0.{number}" for number in range(1, 5)))
    stage.append("image.toml", "\n[components.app]\nbins = 2\n")
    stage.change(*BOTH)


template, stage = fixtures(two_bins)


def grown(stage: Stage) -> Pending:
    stage.edit("image.toml", "[components.app]\nbins = 2", "[components.app]\nbins = 4")
    stage.place.repos.change(NOW)
    return stage.pending()


def redrafted(pending: Pending, name: str, edit: Callable[[Targets], None]) -> Pending:
    """The same change with one role's content edited, as its maker could."""
    role = pending.drafts()[name]
    edit(role)
    waits = ceremony.waiting(role, pending.roles[name].base, *pending.roles[name].needs)
    return msgspec.structs.replace(pending, roles=pending.roles | {name: waits})


def without(pending: Pending, field: str, name: str) -> Pending:
    kept = {n: v for n, v in getattr(pending, field).items() if n != name}
    return msgspec.structs.replace(pending, **{field: kept})


def refused(stage: Stage, pending: Pending, kind: type[OtaError], words: str) -> None:
    """Nobody can sign it, here or by import; what waits and what is public stay."""
    before = stage.stored()
    with pytest.raises(kind, match=words):
        stage.place.repos.review(pending)
    ceremony.save(stage.place.repos.pending_path("image"), pending)
    with pytest.raises(kind, match=words):
        stage.place.repos.sign("targets-1", NOW)
    assert not any(role.signatures for role in stage.pending().roles.values())
    assert stage.stored() == before


# -- what a signer is shown ------------------------------------------------------------------------
def test_growing_is_shown_in_one_line(stage: Stage) -> None:
    """Every release moves, none is new, and a signer reads exactly that."""
    words = stage.place.repos.review(grown(stage))
    assert words == (
        "app: 2 bins become 4; 5 releases move, unchanged",
        "app: signed until 2027-05-22T08:00:00Z",
    )


def test_what_is_slipped_into_a_move_is_shown(stage: Stage) -> None:
    """A release that appears, changes or vanishes among those that move stands out."""
    pending = grown(stage)
    evil, lost = "app/evil.bin", "app/app-1.0.1.bin"
    role = pending.drafts()["app"]
    listed = {p: t for r in pending.drafts().values() for p, t in shared.listed(r).items()}

    def slip(part: Targets) -> None:
        target = deepcopy(listed[lost])
        target.path = evil
        target.unrecognized_fields["custom"]["version"] = "6.6.6"
        part.targets[evil] = target

    pending = redrafted(pending, bins.home("app", role, evil), slip)
    pending = redrafted(pending, bins.home("app", role, lost), lambda part: part.targets.pop(lost))
    words = stage.place.repos.review(pending)
    assert any(line.startswith(f"app: lists {evil}, version 6.6.6") for line in words)
    assert f"app: takes off {lost}" in words
    assert "app: 2 bins become 4; 4 releases move, unchanged" in words


def test_what_a_bin_shares_is_shown_for_each_release(stage: Stage) -> None:
    """Whoever changes what all of them say is seen to change all of them."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    (name,) = stage.pending().roles

    def aimed(part: Targets) -> None:
        part.unrecognized_fields["common"]["hardware_ids"] = ["gw-rev-z"]

    words = stage.place.repos.review(redrafted(stage.pending(), name, aimed))
    listed = stage.pending().drafts()[name].targets
    assert len(listed) > 1
    said = [line for line in words if " lists " in line or " CHANGES " in line]
    assert {line.split()[2].strip(",:") for line in said} == set(listed)
    assert all("gw-rev-z" in line for line in said)


def more_is_shared(part: Targets) -> None:
    part.unrecognized_fields["common"]["security_fix"] = True


def something_else_is_shared(part: Targets) -> None:
    part.unrecognized_fields["common"] = ["app"]


@pytest.mark.parametrize("how", [more_is_shared, something_else_is_shared])
def test_a_bin_shares_nothing_but_what_it_may(stage: Stage, how: Callable[[Targets], None]) -> None:
    """Nobody signs a description that some readers would read otherwise."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    (name,) = stage.pending().roles
    refused(stage, redrafted(stage.pending(), name, how), Malformed, f"{name}: common")


@pytest.mark.parametrize("number", [0, 1])
def test_a_bin_can_not_be_left_out_of_a_move(stage: Stage, number: int) -> None:
    """Neither one that is new nor one that is given up: its releases could vanish with it."""
    pending = grown(stage)
    refused(stage, without(pending, "before", f"app.-{number}"), Malformed, f"app.-{number}")
    refused(stage, without(pending, "roles", f"app.-{number + 2}"), Malformed, f"app.-{number + 2}")


def test_a_bin_alone_needs_the_role_that_delegates_to_it(stage: Stage) -> None:
    """Without it nobody could say who must sign."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    pending = stage.pending()
    refused(stage, without(pending, "before", "app"), Malformed, "without the role")
    (name,) = pending.roles
    refused(stage, without(pending, "before", name), Malformed, "comes without version")


# -- lies in a role --------------------------------------------------------------------------------
def renamed(part: Targets) -> None:
    part.unrecognized_fields["role"] = "app.-9"


def nameless(part: Targets) -> None:
    del part.unrecognized_fields["role"]


@pytest.mark.parametrize("how", [renamed, nameless])
def test_a_bin_holds_its_own_name(stage: Stage, how: Callable[[Targets], None]) -> None:
    """Or it could be served as another one."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    (name,) = stage.pending().roles
    refused(stage, redrafted(stage.pending(), name, how), Refusal, "was signed as")


def test_a_bin_that_nobody_delegates_to(stage: Stage) -> None:
    """A name beside the layout would stay in the snapshot for ever."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    pending = stage.pending()
    ((name, role),) = pending.roles.items()
    stray = pending.drafts()[name]
    stray.unrecognized_fields["role"] = "app.-7"
    waits = ceremony.waiting(stray, 0, *role.needs)
    lie = msgspec.structs.replace(pending, roles=pending.roles | {"app.-7": waits})
    refused(stage, lie, Malformed, "app.-7 is not delegated to")


def test_keys_that_the_file_asks_for_are_the_components(stage: Stage) -> None:
    """Fewer signatures, or others', than the component's role says."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    pending = stage.pending()
    ((name, role),) = pending.roles.items()
    for need in (
        Needs.of([stage.place.keys[n].public_key for n in ("author", "targets-1")], 1),
        Needs(threshold=1, keys=role.needs[0].keys),
    ):
        waits = msgspec.structs.replace(role, needs=(need,))
        lie = msgspec.structs.replace(pending, roles={name: waits})
        refused(stage, lie, Malformed, "asks for other signatures")


def test_a_component_hands_its_releases_on_to_nobody(stage: Stage) -> None:
    """Whoever signs is told before, not devices afterwards."""
    pending = grown(stage)
    friend = stage.place.keys["author"].public_key

    def on(role: Targets) -> None:
        named = DelegatedRole("friend", [friend.keyid], 1, True, ["app/*"])
        role.delegations = Delegations({friend.keyid: friend}, {"friend": named})

    lie = redrafted(pending, "app", on)
    kept = {n: r for n, r in lie.roles.items() if not bins.is_bin(n)}
    refused(stage, msgspec.structs.replace(lie, roles=kept), Refusal, "other keyholders")


# -- what only publishing sees ---------------------------------------------------------------------
def signed(stage: Stage, pending: Pending) -> None:
    ceremony.save(stage.place.repos.pending_path("image"), pending)
    stage.sign(*BOTH)


def unpublished(stage: Stage, code: str) -> None:
    before = stage.stored()
    with pytest.raises(OtaError) as caught:
        stage.place.repos.publish(NOW)
    assert caught.value.code == code
    assert stage.stored() == before


def test_a_release_in_a_bin_where_nobody_looks(stage: Stage) -> None:
    """It would be listed and never found."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    pending = stage.pending()
    (name,) = pending.roles
    other = f"app.-{1 - int(name[-1])}"
    part = stage.place.repos.image().state(NOW).part(name)  # type: ignore[union-attr]
    assert part is not None
    astray = next(iter(part.targets.values()))
    state: Any = stage.place.repos.image().state(NOW)
    wrong = deepcopy(state.part(other))
    wrong.version += 1
    wrong.targets[astray.path] = astray
    waits = ceremony.waiting(wrong, wrong.version - 1, *pending.roles[name].needs)
    before = pending.before | {other: state.client.kept(other).decode()}
    lie = msgspec.structs.replace(pending, roles=pending.roles | {other: waits}, before=before)
    signed(stage, lie)
    unpublished(stage, "component-mismatch")


def test_a_counter_above_the_components(stage: Stage) -> None:
    """The component's role says the highest; a bin can not raise it alone."""
    stage.place.releases.add(stage.place.build("2.0.0"), NOW)
    (name,) = stage.pending().roles

    def raised(part: Targets) -> None:
        part.targets["app/app-2.0.0.bin"].unrecognized_fields["custom"]["release_counter"] = 9

    signed(stage, redrafted(stage.pending(), name, raised))
    unpublished(stage, "counter-mismatch")


def test_a_bin_that_is_in_use_is_not_lifted(stage: Stage) -> None:
    """Listed at a version that it does not have, it would be an outage for ever."""
    pending = stage.place.repos.image().bump(5, {"mcu.-0": 7}, NOW)
    lifted = pending.dormant | {"app.-0": 10**6}
    lie = redrafted(pending, "targets", lambda top: lifting.seal(top, pending.above, lifted))
    signed(stage, msgspec.structs.replace(lie, dormant=lifted))
    with pytest.raises(Malformed, match=r"app\.-0 is delegated to"):
        stage.place.repos.publish(NOW)


def test_killed_at_every_object_a_move_is_completed(stage: Stage, tmp_path: Path) -> None:
    """Devices see the old layout or the new one, and the same bytes are published afterwards."""
    stage.wanted("gw-1")
    grown(stage)
    stage.sign(*BOTH)
    honest = stage.copied(tmp_path / "honest")
    written: list[str] = []
    honest.store.after = written.append
    honest.place.repos.publish(NOW)
    end = honest.stored()
    for at in range(len(written)):
        victim = stage.copied(tmp_path / f"victim-{at}")
        left = [at]

        def dies(_name: str, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        victim.store.after = dies
        with pytest.raises(KeyboardInterrupt):
            victim.place.repos.publish(NOW)
        victim.store.after = None
        assert victim.wanted("gw-1") == ["app/app-1.0.0.bin"]
        victim.place.repos.publish(NOW)
        assert victim.stored() == end
        assert [victim.wanted(d) for d in ("gw-1", "gw-2")] == [["app/app-1.0.0.bin"]] * 2
