"""Planning: every device in one wave or left out with a reason, and nothing that can not work."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from simulators.identities import START, running, slot

from ota.errors import Malformed, NotFound
from ota.ports import Device
from ota.rollout import plan_view, planning, spec
from signing import statement, strict
from signing.plan import Plan, Workspace, read_plan, sign_plan
from signing.release import Release
from signing.report import ComponentState

KEY = CryptoSigner.generate_ed25519().public_key
WORKSPACE = Workspace(image_root="a" * 64, director_root="b" * 64)
ALL = "waves: [{name: all, rest: true}]"


def release(name: str, hardware: str = "gw-rev-b", counter: int = 1, **changes: Any) -> Release:
    """A release whose image is the bytes of its name, as in ``simulators.identities.slot``."""
    component = changes.pop("component", "app")
    return Release(
        path=f"{component}/{name}.tar",
        component=component,
        version=changes.pop("version", name.rpartition("-")[2]),
        hardware_ids=tuple(hardware.split(",")),
        release_counter=counter,
        format="tar",
        length=3,
        hashes={"sha256": strict.digest(name.encode())},
        **changes,
    )


CATALOGUE = {r.path: r for r in (release("app-1"), release("app-2"))}


def device(name: str, runs: ComponentState | None = None, **changes: Any) -> Device:
    """An active device that runs app-1."""
    fields: dict[str, Any] = {
        "id": name,
        "key": KEY,
        "state": "active",
        "state_id": "s",
        "counter": 1,
        "courier": "spool",
        "components": {"app": runs or running("app-1")},
        "last_seen": START,
    }
    return Device(**(fields | changes))


def fleet(number: int, **changes: Any) -> list[Device]:
    return [device(f"dev-{n:03}", **changes) for n in range(number)]


def plan(
    devices: Iterable[Device],
    text: str = ALL,
    releases: dict[str, Release] | None = None,
    **arguments: Any,
) -> Plan:
    head = "" if "release:" in text else "release: app@2\n"
    read = spec.read(f"rollout: app-2\n{head}{text}\n".encode(), "s.yaml")
    return planning.make(
        read,
        devices,
        CATALOGUE if releases is None else releases,
        WORKSPACE,
        arguments.get("now", START),
        arguments.get("open_rollouts", {}),
        token=arguments.get("token", "x7k2m9"),
    )


def waves(made: Plan) -> list[int]:
    return [len(wave.devices) for wave in made.waves]


def reasons(made: Plan) -> dict[str, str]:
    return {e.device: e.reason for e in made.excluded}


# -- the frozen plan ---------------------------------------------------------------------------
def test_a_plan_says_everything() -> None:
    """Rows point into the tables; the signed bytes read back as the same plan."""
    made = plan([device("a"), device("b", courier="ssh"), device("c", running())])
    assert (made.rollout, made.component, made.workspace) == ("app-2-x7k2m9", "app", WORKSPACE)
    assert (made.created, made.expires) == ("2026-11-23T08:00:00Z", "2026-12-23T08:00:00Z")
    assert made.tail_until == "2026-11-30T08:00:00Z"
    seen = {row.device: row for row in made.waves[0].devices}
    assert made.image(seen["a"]) == CATALOGUE["app/app-2.tar"]
    assert made.origin(seen["a"]) == CATALOGUE["app/app-1.tar"]
    assert made.origin(seen["c"]) is None
    assert [made.couriers[seen[d].courier] for d in "abc"] == ["spool", "ssh", "spool"]
    signed = sign_plan(made, CryptoSigner.generate_ed25519())
    assert read_plan(statement.peek("plan", signed)) == made


def test_the_same_input_gives_the_same_plan() -> None:
    """Nothing but the arguments decides: not the order of devices or of the catalogue."""
    devices = fleet(40)
    text = "waves: [{name: a, count: 7}, {name: b, rest: true}]"
    backwards = dict(reversed(CATALOGUE.items()))
    assert plan(devices, text) == plan(reversed(devices), text, backwards)


def test_the_guinea_pigs_change_with_the_rollout() -> None:
    """The order is salted with the rollout id."""
    text = "waves: [{name: a, count: 5}, {name: b, rest: true}]"
    first, second = (
        {row.device for row in plan(fleet(100), text, token=token).waves[0].devices}
        for token in ("aaaaaa", "bbbbbb")
    )
    assert first != second


@pytest.mark.parametrize("token", ["", "short", "toolong", "UPPER1", "../..1"])
def test_a_token_is_six_plain_characters(token: str) -> None:
    """It becomes part of order ids and paths."""
    with pytest.raises(Malformed, match="token"):
        plan(fleet(1), token=token)


# -- who is left out ---------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": "retired"}, "retired"),
        ({"state": "restored"}, "restored: a new incarnation waits to be accepted"),
        ({"components": {}}, "no component: app"),
        ({"components": {"os": running("app-1")}}, "no component: app"),
        ({"runs": running("app-1", hardware="gw-rev-z")}, "no image for its hardware: gw-rev-z"),
        ({"runs": running("app-2")}, "already runs it: app/app-2.tar"),
        ({"runs": running("app-1", floor=2)}, "below its floor: 1 < 2"),
        ({"courier": ""}, "no courier"),
        ({"labels": {}}, "no label for group_by: cell"),
        ({"labels": {"cell": ""}}, "no label for group_by: cell"),
        ({"last_seen": None}, "never reported"),
        ({"last_seen": START - timedelta(days=3)}, "silent: last report 2026-11-20T08:00:00Z"),
    ],
)
def test_each_excluded_device_has_its_reason(changes: dict[str, Any], reason: str) -> None:
    """One device with one fault beside a healthy one: named, and in no wave."""
    text = f"seen_within: 2d\nlimits: {{group_by: cell, max_unavailable: 1}}\n{ALL}"
    odd = device("odd", **({"labels": {"cell": "c1"}} | changes))
    made = plan([odd, device("ok", labels={"cell": "c1"})], text)
    assert reasons(made) == {"odd": reason}
    assert list(made.rows) == ["ok"]
    assert made.groups == {"ok": "c1"}


def test_one_open_rollout_per_device() -> None:
    """Devices of an open rollout are left out, unless it is superseded."""
    busy = {"app-1-aaaaaa": {"dev-000"}, "app-1-bbbbbb": {"dev-001"}}
    made = plan(fleet(3), open_rollouts=busy)
    assert reasons(made) == {
        "dev-000": "in open rollout: app-1-aaaaaa",
        "dev-001": "in open rollout: app-1-bbbbbb",
    }
    made = plan(fleet(3), f"supersedes: app-1-aaaaaa\n{ALL}", open_rollouts=busy)
    assert set(reasons(made)) == {"dev-001"}
    assert made.supersedes == ("app-1-aaaaaa",)


def test_the_selector_decides_who_is_meant() -> None:
    """A device that is not selected is not even listed as left out."""
    devices = [device("a", labels={"site": "x"}), device("b", labels={"site": "y"})]
    made = plan(devices, f"select: site=x\n{ALL}")
    assert (list(made.rows), made.excluded) == (["a"], ())


def test_devices_in_no_wave_are_named() -> None:
    """When no wave takes the rest, the rest is told."""
    made = plan(fleet(5), "waves: [{name: a, count: 2}]")
    assert waves(made) == [2]
    assert set(reasons(made).values()) == {"in no wave"}
    assert len(made.excluded) == 3


def test_named_devices_that_are_not_there() -> None:
    """A typing error in a device list is seen in the plan; a known reason is not repeated."""
    devices = [*fleet(2), device("old", state="retired")]
    made = plan(devices, "waves: [{name: a, devices: [dev-000, old, nobody]}]")
    assert list(made.rows) == ["dev-000"]
    assert reasons(made) == {
        "dev-001": "in no wave",
        "nobody": "named, but not registered or not selected",
        "old": "retired",
    }


# -- the way back ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (running("app-1"), "app/app-1.tar"),
        (running("unmanaged"), None),
        (running(), None),
        (running("app-1", floor=1), "app/app-1.tar"),
    ],
)
def test_origin_is_what_runs_if_it_is_listed(state: ComponentState, expected: str | None) -> None:
    """Unknown content is never a way back."""
    made = plan([device("a", state)])
    origin = made.origin(made.waves[0].devices[0])
    assert (origin.path if origin else None) == expected


def test_a_yanked_or_low_origin_is_no_way_back() -> None:
    """No longer listed, or below the device's floor: -1, for which nothing can be ordered."""
    catalogue = {r.path: r for r in (release("app-2", counter=5), release("app-1", counter=3))}
    below = device("below", running("app-1", floor=4))
    above = device("above", running("app-1", floor=3))
    made = plan([below, above], releases=catalogue)
    assert {row.device: row.origin for row in made.waves[0].devices} == {"below": -1, "above": 0}
    made = plan([above], releases={"app/app-2.tar": catalogue["app/app-2.tar"]})
    assert made.waves[0].devices[0].origin == -1
    assert made.origins == ()


def test_one_image_under_two_paths_keeps_the_path_that_runs() -> None:
    """The frozen ``from`` is the very release, not another one with the same bytes."""
    twin = msgspec.structs.replace(CATALOGUE["app/app-1.tar"], path="app/aaa.tar")
    catalogue = CATALOGUE | {twin.path: twin}
    state = ComponentState(
        hardware_id="gw-rev-b", floor=0, current=slot("app-1", path="app/app-1.tar")
    )
    made = plan([device("a", state), device("b")], releases=catalogue)
    found = {row.device: made.origins[row.origin].path for row in made.waves[0].devices}
    assert found == {"a": "app/app-1.tar", "b": "app/aaa.tar"}


# -- releases ----------------------------------------------------------------------------------
def test_each_hardware_gets_its_image() -> None:
    """One version, two images: each device its own."""
    other = release("appz-2", "gw-rev-z")
    catalogue = CATALOGUE | {other.path: other}
    made = plan(
        [device("b"), device("z", running("app-1", hardware="gw-rev-z"))], releases=catalogue
    )
    found = {row.device: made.image(row).path for row in made.waves[0].devices}
    assert found == {"b": "app/app-2.tar", "z": "app/appz-2.tar"}


def test_releases_must_be_listed_and_agree() -> None:
    """Not listed, of two components, or two for one hardware: named."""
    with pytest.raises(NotFound, match="does not list app@9") as caught:
        plan(fleet(1), f"release: app@9\n{ALL}")
    assert caught.value.remedy.startswith("ota release list")
    twin = release("twin-2")
    with pytest.raises(Malformed, match="are both for hardware gw-rev-b"):
        plan(fleet(1), releases=CATALOGUE | {twin.path: twin})
    system = release("os-2", component="os")
    with pytest.raises(Malformed, match="one component a rollout, found app, os"):
        plan(
            fleet(1),
            f"release: [app@2, os/os-2.tar]\n{ALL}",
            CATALOGUE | {system.path: system},
        )
    by_path = plan(fleet(1), f"release: app/app-2.tar\n{ALL}", CATALOGUE | {twin.path: twin})
    assert by_path.images == (CATALOGUE["app/app-2.tar"],)


# -- waves -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("number", "percents", "expected"),
    [
        (100, [1, 9, 90], [1, 9, 90]),
        (3, [10, 90], [1, 2]),
        (10, [33, 33, 34], [4, 3, 3]),
        (7, [50, 50], [4, 3]),
        (1000, [1, 10, 39, 50], [10, 100, 390, 500]),
        (101, [50], [51]),
    ],
)
def test_percentages_are_cumulative_and_rounded_up(
    number: int, percents: list[int], expected: list[int]
) -> None:
    """Shares never overlap, and those of 100 % leave nobody out."""
    listed = ", ".join(f"{{name: w{n}, percent: {p}}}" for n, p in enumerate(percents))
    assert waves(plan(fleet(number), f"waves: [{listed}]")) == expected


def test_waves_take_what_earlier_ones_left() -> None:
    """Counts, labels and the rest; named devices are kept for the wave that names them."""
    devices = [device(f"dev-{n}", labels={"site": "x" if n % 2 else "y"}) for n in range(10)]
    named = ", ".join(f"dev-{n}" for n in range(3))
    made = plan(
        devices,
        "waves: [{name: a, count: 2}, {name: b, select: site=x}, "
        f"{{name: c, devices: [{named}]}}, {{name: d, rest: true}}]",
    )
    groups = [[row.device for row in wave.devices] for wave in made.waves]
    assert set(groups[2]) == {"dev-0", "dev-1", "dev-2"}
    assert len(groups[0]) == 2
    assert all(int(d[-1]) % 2 for d in groups[1])
    assert not [d for d in groups[3] if int(d[-1]) % 2]
    assert sorted(d for group in groups for d in group) == sorted(d.id for d in devices)


def test_waves_can_select_by_id_and_courier() -> None:
    """Pseudo-keys work in waves as they do in the fleet."""
    devices = [device("a"), device("b", courier="ssh"), device("c", courier="ssh")]
    made = plan(
        devices,
        "waves: [{name: x, select: 'courier=ssh,id!=c'}, {name: y, rest: true}]",
    )
    assert [{row.device for row in wave.devices} for wave in made.waves] == [{"b"}, {"a", "c"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("waves: [{name: a, select: site=x}]", "s.yaml:3: waves[0]: wave 'a' would have no device"),
        ("waves: [{name: a, rest: true, gate: {min_sample: 4}}]", "min_sample of 4 could never"),
        (f"expires: 2026-11-01T00:00:00Z\n{ALL}", "expires: 2026-11-01T00:00:00Z has passed"),
        (f"tail_until: 40d\n{ALL}", "tail_until: 2027-01-02T08:00:00Z is not between"),
        (f"tail_until: 2026-11-01T00:00:00Z\n{ALL}", "tail_until: 2026-11-01T00:00:00Z is not"),
        (f"tail_until: 0s\n{ALL}", "tail_until"),
        (f"select: site=x\n{ALL}", "no device is left to update: the selector matches none"),
        (
            "waves: [{name: a, select: site=x, allow_empty: true}]",
            "no device is left to update: 3 in no wave",
        ),
    ],
)
def test_plans_that_could_never_work_are_refused(text: str, message: str) -> None:
    """Empty waves, unreachable samples, ends before beginnings."""
    with pytest.raises(Malformed) as caught:
        plan(fleet(3), text)
    assert message in str(caught.value)


def test_nobody_left_says_why() -> None:
    """The commonest reasons stand in the message."""
    devices = [
        device("a", running("app-2")),
        device("b", running("app-2")),
        device("c", courier=""),
    ]
    with pytest.raises(Malformed, match="2 already runs it; 1 no courier"):
        plan(devices)


def test_an_empty_wave_can_be_allowed() -> None:
    """``allow_empty`` keeps the wave in its place."""
    made = plan(
        fleet(3), "waves: [{name: a, select: site=x, allow_empty: true}, {name: b, rest: true}]"
    )
    assert waves(made) == [0, 3]


_WAVE = st.one_of(
    st.integers(1, 12).map(lambda n: f"count: {n}"),
    st.integers(1, 25).map(lambda n: f"percent: {n}"),
    st.sampled_from(["select: site=x", "select: '!site'", "devices: [dev-000, dev-001]"]),
)


@given(st.lists(_WAVE, min_size=1, max_size=4), st.integers(1, 40), st.booleans())
def test_every_device_stands_exactly_once(parts: list[str], number: int, rest: bool) -> None:
    """Whatever the waves: each device in one wave or excluded once; order and bytes agree."""
    parts = [*dict.fromkeys(parts), *(["rest: true"] if rest else [])]
    listed = ", ".join(f"{{name: w{n}, allow_empty: true, {p}}}" for n, p in enumerate(parts))
    devices = [device(f"dev-{n:03}", labels={"site": "x"} if n % 3 else {}) for n in range(number)]
    try:
        made = plan(devices, f"waves: [{listed}]")
    except Malformed as error:
        assert "no device is left" in str(error)  # noqa: PT017 - either outcome is right
        return
    planned = [row.device for wave in made.waves for row in wave.devices]
    left_out = [e.device for e in made.excluded]
    assert len(planned) == len(set(planned))
    real = {d.id for d in devices}
    assert sorted(planned + [d for d in left_out if d in real]) == sorted(real)
    assert not rest or set(left_out) <= {"dev-000", "dev-001"} - real
    assert read_plan(statement.peek("plan", sign_plan(made, CryptoSigner.generate_ed25519())))


# -- for people --------------------------------------------------------------------------------
def test_a_description_has_all_that_an_approver_sees() -> None:
    """Waves, images, exclusions by reason, and the way back in numbers."""
    devices = [
        *fleet(4),
        device("unknown", running("other")),
        device("done-1", running("app-2")),
        device("done-2", running("app-2")),
        device("lost", courier=""),
    ]
    shown = plan_view.describe(plan(devices, "waves: [{name: a, count: 2}, {name: b, rest: true}]"))
    assert [(w["wave"], w["name"], w["devices"]) for w in shown["waves"]] == [
        (1, "a", 2),
        (2, "b", 3),
    ]
    assert shown["waves"][0]["couriers"] == ["spool"]
    assert shown["excluded"] == [
        {"reason": "already runs it", "devices": 2, "examples": ["done-1", "done-2"]},
        {"reason": "no courier", "devices": 1, "examples": ["lost"]},
    ]
    assert shown["way_back"] == {"open": 4, "closed": 0, "unknown": 1}
    assert shown["images"][0]["devices"] == shown["devices"] == 5
    assert shown["warnings"] == [
        "1 of 5 devices have no way back: what they run is not listed",
    ]
    assert strict.loads(strict.compact(shown), limit=10_000) == shown


def test_a_security_fix_closes_the_way_back_and_says_so() -> None:
    """Rule 5: after it is committed the floor rises, and the plan says that beforehand."""
    fix = release("app-3", counter=2, security_fix=True)
    made = plan(fleet(2), f"release: app@3\n{ALL}", CATALOGUE | {fix.path: fix})
    shown = plan_view.describe(made)
    assert shown["way_back"] == {"open": 0, "closed": 2, "unknown": 0}
    assert "2 of 2 devices have no way back: a security fix" in shown["warnings"]


def test_a_budget_that_protects_nothing_is_pointed_out() -> None:
    """max_unavailable as large as a group of several lets all of it be down at once."""
    devices = [device(f"dev-{n}", labels={"cell": f"c{min(n, 2)}"}) for n in range(6)]
    text = f"limits: {{group_by: cell, max_unavailable: 4}}\n{ALL}"
    made = plan(devices, text)
    assert made.groups["dev-5"] == "c2"
    assert plan_view.warnings(made) == [
        "max_unavailable 4 lets a whole group be down at once: c2 (4)"
    ]
