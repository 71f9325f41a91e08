"""What the releases of a bin share: said once, read as before, and nothing else can be shared."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import TargetFile, Targets

from signing import shared, strict
from signing.errors import Malformed
from signing.release import Release
from signing.repository import encoded

NAME = "app.-2b"


def release(version: str, **words: Any) -> Release:
    path = f"app/app-{version}.tar.gz"
    usual: dict[str, Any] = {
        "hardware_ids": ("gw-rev-b",),
        "release_counter": 1,
        "format": "tar",
        "hashes": {"sha256": strict.digest(path.encode())},
    }
    return Release(path=path, component="app", version=version, length=9, **(usual | words))


def role_of(*releases: Release, name: str | None = NAME) -> Targets:
    role = Targets(expires=datetime(2027, 1, 1, tzinfo=UTC) + timedelta())
    if name is not None:
        role.unrecognized_fields["role"] = name
    role.targets = {r.path: r.to_target() for r in releases}
    return role


def read(role: Targets) -> dict[str, Release]:
    return {path: Release.from_target(t) for path, t in shared.listed(role).items()}


releases = st.lists(
    st.builds(
        release,
        st.integers(0, 40).map(lambda n: f"1.0.{n}"),
        hardware_ids=st.sampled_from([("gw-rev-b",), ("gw-rev-c",), ("gw-rev-b", "gw-rev-c")]),
        release_counter=st.integers(0, 3),
        format=st.sampled_from(["tar", "zip", "file"]),
        security_fix=st.booleans(),
        notes=st.sampled_from(["", "a note"]),
    ),
    max_size=12,
    unique_by=lambda r: r.path,
)


@given(releases)
def test_every_release_reads_as_it_was_described(found: list[Release]) -> None:
    """Whatever is shared, in memory and from bytes; sharing twice changes nothing."""
    role = role_of(*found)
    shared.share(role)
    assert read(role) == {r.path: r for r in found}
    once = encoded(role, {})
    shared.share(role)
    assert encoded(role, {}) == once


@given(releases, st.randoms(use_true_random=False))
def test_the_same_releases_are_the_same_bytes(found: list[Release], dice: random.Random) -> None:
    """In whatever order they came, and whatever stood there in between."""
    one, other = role_of(*found), role_of(*dice.sample(found, len(found)))
    other.targets |= {r.path: r.to_target() for r in [release("9.9.9", release_counter=7)]}
    shared.share(other)
    del other.targets[release("9.9.9").path]
    shared.share(one)
    shared.share(other)
    assert encoded(one, {}) == encoded(other, {})


def test_a_bin_says_once_what_most_of_its_releases_say() -> None:
    """And each release only what is different about it."""
    role = role_of(release("1"), release("2"), release("3", hardware_ids=("gw-rev-c",)))
    shared.share(role)
    assert role.unrecognized_fields["common"] == {
        "component": "app",
        "format": "tar",
        "hardware_ids": ["gw-rev-b"],
        "kind": "release",
        "release_counter": 1,
    }
    assert [t.unrecognized_fields["custom"] for t in role.targets.values()] == [
        {"version": "1"},
        {"version": "2"},
        {"version": "3", "hardware_ids": ["gw-rev-c"]},
    ]


@pytest.mark.parametrize("name", [None, "app"])
def test_outside_of_bins_every_release_says_all(name: str | None) -> None:
    """``common`` means nothing there, whoever wrote it."""
    role = role_of(release("1"), name=name)
    plain = role.targets[release("1").path].to_dict()
    role.unrecognized_fields["common"] = {"kind": "playbook", "component": "mcu"}
    assert {p: t.to_dict() for p, t in shared.listed(role).items()} == {release("1").path: plain}
    shared.share(role)
    assert "common" not in role.unrecognized_fields
    assert role.targets[release("1").path].to_dict() == plain


@pytest.mark.parametrize(
    "common",
    [
        {"security_fix": True},
        {"notes": "x"},
        {"version": "1"},
        {"hashes": {"sha256": "0" * 64}},
        {"deltas": []},
        ["kind"],
        "release",
        1,
        None,
    ],
)
def test_nothing_else_can_be_shared(common: Any) -> None:
    """A reader that does not know a field would read something else than was signed."""
    role = role_of(release("1"))
    role.unrecognized_fields["common"] = common
    with pytest.raises(Malformed, match=r"app\.-2b: common"):
        shared.listed(role)
    with pytest.raises(Malformed):
        shared.whole(role, role.targets[release("1").path])


def test_what_a_release_says_itself_holds() -> None:
    """What is shared adds to it and never contradicts it."""
    role = role_of(release("1"))
    role.unrecognized_fields["common"] = {"kind": "playbook", "hardware_ids": ["gw-rev-z"]}
    assert read(role) == {release("1").path: release("1")}


def test_a_bin_that_can_not_be_read_can_be_mended() -> None:
    """Sharing drops what nobody may share, and a target without a description stops nothing."""
    role = role_of(release("1"), release("2"))
    role.unrecognized_fields["common"] = {"notes": "x"}
    bare = TargetFile(9, {"sha256": "0" * 64}, "app/bare.bin")
    role.targets[bare.path] = bare
    shared.share(role)
    assert "common" not in role.unrecognized_fields
    assert role.targets[bare.path].to_dict() == bare.to_dict()
    del role.targets[bare.path]
    shared.share(role)
    assert read(role) == {r.path: r for r in (release("1"), release("2"))}
    assert "common" in role.unrecognized_fields


def test_an_empty_bin_shares_nothing() -> None:
    """Its last release gone, it says nothing about others."""
    role = role_of(release("1"))
    shared.share(role)
    del role.targets[release("1").path]
    shared.share(role)
    assert "common" not in role.unrecognized_fields
