"""The engine with the real director desk, repositories, catalogue, registry and spool."""

from __future__ import annotations

from pathlib import Path

import msgspec
from simulators.fleet_sim import SimDevice
from simulators.identities import Identity
from simulators.signed import NOW, Signed

from ota.couriers.spool import Spool
from ota.fleet.registry import Registry
from ota.repositories.catalogue import StoreCatalogue
from ota.rollout.campaign import Campaign
from ota.rollout.engine import Engine
from ota.rollout.journal import SqlJournal
from signing import strict
from signing.approval import approve
from signing.plan import DeviceRow, Gate, Wave, sign_plan

R = "app-2-x7k2m9"


def test_forward_and_back_over_real_metadata(tmp_path: Path) -> None:
    """One device commits, one reverts: signed metadata says so at each moment, and goes back."""
    place = Signed(tmp_path).created()
    old, new = place.released("1.0.0"), place.released("2.0.0")
    registry = Registry(f"sqlite:///{tmp_path / 'registry.db'}")
    desk, spool = place.desk, tmp_path / "spool"
    devices = {n: SimDevice(Identity(n), old) for n in ("gw-1", "gw-2", "gw-3")}
    for name, device in devices.items():
        registry.register(device.identity.enrol(device.state()), None, {}, "spool", NOW)
        desk.register(name, NOW)
    root = (tmp_path / "repo-metadata/roots/image/1.root.json").read_bytes()
    engine = Engine(
        SqlJournal(registry.engine),
        registry,
        StoreCatalogue(place.policy, place.store, lambda: root, lambda: NOW),
        couriers={"spool": Spool(spool)},
        desk=desk,
        workspace=place.repos.workspace(),
    )
    campaign = Campaign(engine, tmp_path / "lock")
    plan = place.plan(new, old)
    waves = tuple(
        Wave(
            name=f"w{i}",
            devices=tuple(DeviceRow(n, 0, 0) for n in names),
            soak=0,
            deadline=3600,
            gate=Gate(),
        )
        for i, names in enumerate((("gw-1", "gw-2"), ("gw-3",)))
    )
    data = sign_plan(msgspec.structs.replace(plan, waves=waves), place.keys["author"])
    ends = strict.instant(plan.expires)
    approval = approve(data, place.repos.workspace(), ends, place.keys["approver"])
    campaign.start(data, [approval], NOW)
    campaign.step(R, NOW)
    assert desk.assignments("gw-1")["app"].sha256 == new.sha256
    assert desk.assignments("gw-3") == {}
    devices["gw-2"].mood = "sick"
    listed = {r.path: r for r in (old, new)}
    state = "RUNNING"
    for _ in range(6):
        for name, device in devices.items():
            report = device.poll(desk.assignments(name).get("app"), listed)
            if report is not None:
                folder = spool / name / "reports"
                folder.mkdir(parents=True, exist_ok=True)
                file = f"{device.counter:010}-{strict.digest(report)[:8]}.json"
                (folder / file).write_bytes(report)
        state = campaign.step(R, NOW).state
        if state not in {"RUNNING", "ROLLING_BACK"}:
            break
    assert state == "ROLLED_BACK"
    assert {n: d.runs for n, d in devices.items()} == dict.fromkeys(devices, old)
    assert desk.assignments("gw-1")["app"].kind == "rollback"
    assert desk.assignments("gw-2") == {}
    assert desk.assignments("gw-3") == {}
    assert desk.state("gw-3").versions.targets == 1, "never touched"
    assert not list(spool.glob("*/reports/*"))
    registry.close()
