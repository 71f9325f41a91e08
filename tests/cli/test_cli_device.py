"""``ota device`` and ``ota fleet sync aws`` as an operator types them, against an emulator of AWS."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Ota
from tests.simulators.ministack import Account

DEVICE = "gw-1"


@pytest.fixture(name="plant")
def _plant(ota: Ota, aws: Account, monkeypatch: pytest.MonkeyPatch) -> Ota:
    """A workspace with three registered devices, and an account with the device's policies."""
    aws.use(monkeypatch)
    for name in ("ota-device", "ota-device-https"):
        document = '{"Version": "2012-10-17", "Statement": []}'
        aws.client("iot").create_policy(policyName=name, policyDocument=document)
    return ota


def request(folder: Path, name: str = DEVICE) -> Path:
    """A request as a device makes it, by the tool that every device has."""
    key, out = folder / f"{name}.key", folder / f"{name}.csr"
    words = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    words += ["-nodes", "-keyout", str(key), "-subj", f"/CN={name}", "-out", str(out)]
    subprocess.run(words, check=True, capture_output=True)
    return out


def test_from_request_to_revocation(plant: Ota, aws: Account, tmp_path: Path) -> None:
    """Enrolled, seen, revoked: the certificate, the registry and the director agree."""
    csr, out = request(tmp_path), tmp_path / "gw-1.crt"
    made = plant.ok("device", "enroll", DEVICE, "--csr", csr, "--out", out, "-o", "json").json
    assert made["state"] == "active"
    assert "BEGIN CERTIFICATE" in out.read_text()
    seen = plant.ok("device", "show", DEVICE, "-o", "json").json
    assert [c["status"] for c in seen["certificates"]] == ["ACTIVE"]
    tried = plant.ok("device", "revoke", DEVICE, "--dry-run", "-o", "json").json
    assert tried == {
        "device": DEVICE,
        "would_revoke": [made["certificate_id"]],
        "would_retire": True,
        "would_withdraw": [],
    }
    assert plant("device", "revoke", "gw-99", "--dry-run").code == 2
    assert plant("device", "revoke", DEVICE).code == 4
    assert plant.ok("device", "show", DEVICE, "-o", "json").json == seen
    assert (seen["registered"], seen["receipt"]) == ("active", "")
    done = plant.ok("device", "revoke", DEVICE, "--yes", "-o", "json").json
    ended = plant.ok("device", "show", DEVICE, "-o", "json").json
    assert (ended["registered"], ended["receipt"]) == ("retired", "none")
    assert done["revoked"] == [made["certificate_id"]]
    assert plant.ok("fleet", "show", DEVICE, "-o", "json").json["state"] == "retired"
    root = aws.client("iot")
    description = root.describe_certificate(certificateId=made["certificate_id"])
    assert description["certificateDescription"]["status"] == "REVOKED"
    again = plant("device", "enroll", DEVICE, "--csr", csr, "--out", out)
    assert again.code == 4
    assert "ota fleet replace" in again.err


def test_wrong_words(plant: Ota, aws: Account, tmp_path: Path) -> None:
    """Each mistake has its code and the next command, and makes nothing."""
    out = tmp_path / "out.crt"
    absent = plant("device", "enroll", DEVICE, "--csr", tmp_path / "none.csr", "--out", out)
    assert (absent.code, "none.csr" in absent.err) == (2, True)
    other = plant("device", "enroll", DEVICE, "--csr", request(tmp_path, "gw-2"), "--out", out)
    assert (other.code, "csr-name" in other.err) == (4, True)
    stranger = request(tmp_path, "gw-99")
    unknown = plant("device", "enroll", "gw-99", "--csr", stranger, "--out", out)
    assert (unknown.code, "not registered" in unknown.err) == (2, True)
    nobody = plant("device", "show", "gw-99")
    assert (nobody.code, "ota fleet list" in nobody.err) == (2, True)
    assert not out.exists()
    assert aws.client("iot").list_certificates()["certificates"] == []
    assert aws.client("iot").list_things()["things"] == []


def test_a_full_disk_leaves_no_active_certificate(plant: Ota, aws: Account, tmp_path: Path) -> None:
    """A certificate that could not be written is not activated; the next run goes on."""
    csr, blocked = request(tmp_path), tmp_path / "file"
    blocked.write_text("")
    failed = plant("device", "enroll", DEVICE, "--csr", csr, "--out", blocked / "x.crt")
    assert failed.code == 1
    assert [c["status"] for c in aws.client("iot").list_certificates()["certificates"]] == [
        "INACTIVE"
    ]
    plant.ok("device", "enroll", DEVICE, "--csr", csr, "--out", tmp_path / "x.crt")
    assert [c["status"] for c in aws.client("iot").list_certificates()["certificates"]] == [
        "ACTIVE"
    ]


def test_sync(plant: Ota, aws: Account) -> None:
    """Labels come over, both sides are compared; a dry run writes nothing."""
    aws.client("iot").create_thing(thingName=DEVICE, attributePayload={"attributes": {"line": "7"}})
    aws.client("iot").create_thing(thingName="gw-77")
    dry = plant.ok("fleet", "sync", "aws", "--list", "--dry-run", "-o", "json").json
    assert "aws/line" not in plant.ok("fleet", "show", DEVICE, "-o", "json").json["labels"]
    rows = plant.ok("fleet", "sync", "aws", "--list", "-o", "json").json
    assert rows == dry
    found = {(row["device"], row["finding"]) for row in rows}
    assert found >= {(DEVICE, "labels"), ("gw-77", "aws-only"), ("gw-2", "not-in-aws")}
    assert plant.ok("fleet", "show", DEVICE, "-o", "json").json["labels"]["aws/line"] == "7"
    chosen = plant.ok("fleet", "list", "-l", "aws/line=7", "-o", "json").json
    assert [row["id"] for row in chosen] == [DEVICE]


@pytest.mark.parametrize(
    "line", ['region = "here"', "policies = []", 'policies = ["a b"]', 'query = ""', "x = 1"]
)
def test_settings_of_aws(plant: Ota, line: str) -> None:
    """A wrong value names file and key."""
    file = plant.folder / "ota.toml"
    file.write_text(f"{file.read_text()}\n[aws]\n{line}\n")
    found = plant("fleet", "list")
    assert found.code == 2
    assert "ota.toml: aws" in found.err
