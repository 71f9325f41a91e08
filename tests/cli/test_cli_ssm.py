"""``ota ssm``, ``ota device activate-ssm`` and ``ota fleet sync ssm`` as an operator types them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Ota
from tests.simulators.ssmfake import FakeSsm


@pytest.fixture(name="fake")
def _fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSsm]:
    """A Systems Manager whose nodes are two of the three devices, and a stranger."""
    with FakeSsm(tmp_path / "ssm") as fake:
        fake.use(monkeypatch)
        for device in ("gw-1", "gw-2", "stranger"):
            fake.join(device)
        yield fake


@pytest.fixture(name="plant")
def _plant(ota: Ota, fake: FakeSsm) -> Ota:
    """A workspace that uses it."""
    file = ota.folder / "ota.toml"
    file.write_text(f'{file.read_text()}\n[couriers.ssm]\nprefix = "ota"\n')
    return ota


def test_nodes_become_labels(plant: Ota, fake: FakeSsm) -> None:
    """Registered devices get their node's label, strangers nothing; a dry run writes nothing."""
    dry = plant.ok("fleet", "sync", "ssm", "--dry-run", "-o", "json").json
    assert [row["device"] for row in dry] == ["gw-1", "gw-2"]
    assert "ssm-node" not in plant.ok("fleet", "show", "gw-1", "-o", "json").json["labels"]
    assert plant.ok("fleet", "sync", "ssm", "-o", "json").json == dry
    labels = plant.ok("fleet", "show", "gw-1", "-o", "json").json["labels"]
    assert labels["ssm-node"] == fake.node("gw-1").id
    assert plant.ok("fleet", "sync", "ssm", "-o", "json").json == []
    listed = plant.ok("ssm", "nodes", "-o", "json").json
    assert [row["device"] for row in listed] == ["gw-1", "gw-2", "stranger"]


def test_associations_are_made_once(plant: Ota, fake: FakeSsm) -> None:
    """Look and inventory, of the pinned document, for tagged nodes; the second time they are there."""
    first = plant.ok("ssm", "associate", "--minutes", "60", "-o", "json").json
    assert [row["result"] for row in first] == ["made", "made"]
    look, inventory = fake.associations
    assert look["Name"].startswith("ota-relay-")
    assert (look["DocumentVersion"], look["ScheduleExpression"]) == ("1", "rate(60 minutes)")
    assert look["Targets"] == [{"Key": "tag:ota", "Values": ["managed"]}]
    assert inventory["Name"] == "AWS-GatherSoftwareInventory"
    again = plant.ok("ssm", "associate", "-o", "json").json
    assert [row["result"] for row in again] == ["there", "there"]
    assert plant("ssm", "associate", "--minutes", "5").code == 2
    assert len(fake.associations) == 2


def test_compliance_shows_what_devices_signed(plant: Ota, fake: FakeSsm) -> None:
    """One item a component, of those that have a node; a retired device is not shown."""
    plant.ok("fleet", "sync", "ssm")
    plant.ok("fleet", "retire", "gw-2", "--yes")
    rows = plant.ok("ssm", "compliance", "-o", "json").json
    assert [row["device"] for row in rows] == ["gw-1"]
    (shown,) = fake.compliance
    assert shown["ComplianceType"] == "Custom:OTA"
    assert shown["ResourceId"] == fake.node("gw-1").id
    assert shown["Items"][0]["Status"] == "COMPLIANT"
    assert shown["Items"][0]["Title"] == "app 1.0.0"


def test_an_activation_is_a_secret(plant: Ota, fake: FakeSsm, tmp_path: Path) -> None:
    """Written once, with mode 0600; never printed; for one machine, under the device's id."""
    out = tmp_path / "gw-3.activation"
    result = plant.ok("device", "activate-ssm", "gw-3", "--out", out, "-o", "json")
    assert "s3cr3t" not in result.raw + result.err
    assert "s3cr3t" in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o600
    (asked,) = fake.activations
    assert (asked["DefaultInstanceName"], asked["RegistrationLimit"]) == ("gw-3", 1)
    assert asked["IamRole"] == "ota-node"
    assert plant("device", "activate-ssm", "gw-3", "--out", out).code == 4
    assert plant("device", "activate-ssm", "gw-99", "--out", tmp_path / "x").code == 2
    long = plant("device", "activate-ssm", "gw-3", "--out", tmp_path / "y", "--lifetime", "31d")
    assert long.code == 2
    assert len(fake.activations) == 1


def test_a_workspace_without_it(ota: Ota) -> None:
    """Says what to write where."""
    found = ota("ssm", "nodes")
    assert found.code == 2
    assert "[couriers.ssm]" in found.err


@pytest.mark.parametrize(
    "line", ['prefix = "a b"', "delivery = 1", 'max_errors = "x"', 'config = "relative"', "y = 1"]
)
def test_settings(ota: Ota, line: str) -> None:
    """A wrong value names file and key."""
    file = ota.folder / "ota.toml"
    file.write_text(f"{file.read_text()}\n[couriers.ssm]\n{line}\n")
    found = ota("fleet", "list")
    assert (found.code, "couriers.ssm" in found.err) == (2, True)
