"""The whole road through a private bucket: published with boto3, read with a role's credentials.

Both sides are the product's own, over TLS; the bucket is a strict S3 that checks every signature and
lets each device read its own orders and the image repository alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from simulators.pki import Authority, Issued
from simulators.plant import Gateway, Part, Plant
from simulators.role_provider import Provider, provider
from simulators.strict_s3 import StrictS3, strict_s3

BIG = os.urandom(1 << 20)
WAVES = ({"name": "canary", "count": 1}, {"name": "rest", "rest": True})
TABLE = """\
[aws]
region = "eu-west-1"
credentials_endpoint = "{provider}"
role_alias = "ota-device"
certificate = "{certificate}"
key = "{key}"
ca = "{ca}"
s3_endpoint = "{s3}"
"""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def s3(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Iterator[StrictS3]:
    with strict_s3(authority) as server:
        server.use(monkeypatch, AWS_CA_BUNDLE=str(authority.ca))
        server.page = 1000
        yield server


@pytest.fixture
def roles(authority: Authority, s3: StrictS3) -> Iterator[Provider]:
    with provider(authority, s3) as server:
        yield server


class BucketPlant(Plant):
    """A plant whose store is the bucket, for the operators and for each device."""

    def __init__(self, folder: Path, s3: StrictS3, roles: Provider, authority: Authority) -> None:
        super().__init__(folder)
        self.s3, self.roles, self.authority = s3, roles, authority
        self.issued: list[Issued] = []
        self.wiring.close()
        for path in (p for p in self.store.rglob("*.json") if ".tmp" not in p.parts):
            s3.put(f"p/{path.relative_to(self.store)}", path.read_bytes())
        toml = self.workspace / "ota.toml"
        toml.write_text(toml.read_text().replace("file:store", "s3://updates/p"))
        self.url = "s3://updates/p"
        self.reopen()

    def gateway(self, device: str, parts: Sequence[Part]) -> Gateway:
        """With a certificate attached to its thing, and ``[aws]``."""
        made, issued = super().gateway(device, parts), self.authority.issue(device)
        self.issued.append(issued)
        self.roles.attach(device, issued)
        words = {"provider": self.roles.endpoint, "ca": self.authority.ca, "s3": self.s3.url}
        text = TABLE.format(certificate=issued.certificate, key=issued.key, **words)
        made.toml.write_text(made.toml.read_text() + text)
        return made


@pytest.fixture
def plant(
    tmp_path: Path, s3: StrictS3, roles: Provider, authority: Authority
) -> Iterator[BucketPlant]:
    plant = BucketPlant(tmp_path / "plant", s3, roles, authority)
    plant.join(["a", "b"])
    yield plant
    plant.wiring.close()


def test_a_rollout_through_a_private_bucket(plant: BucketPlant, s3: StrictS3) -> None:
    """Waves, a cut with revoked sessions, a bad permission; each device reads its own alone."""
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0", WAVES)["state"] == "COMPLETED"
    assert plant.runs() == {"a": "app 1.0.0", "b": "app 1.0.0"}
    plant.publish(plant.build("2.0.0", BIG))
    rollout = plant.start("two", "2.0.0")
    plant.step(rollout)
    # the line breaks in the middle of the image, and every session is revoked meanwhile
    (image,) = [name for name in s3.objects if name.endswith("app-2.0.0.bin")]
    s3.cut[image] = len(BIG) // 2
    plant["a"].look()
    assert plant["a"].codes[-1:] == ["outage"]
    plant.roles.revoke_sessions()
    s3.requests.clear()
    plant.look()
    assert plant.drive(rollout)["state"] == "COMPLETED"
    assert {d: g.running for d, g in plant.devices.items()} == {"a": BIG, "b": BIG}
    ranges = [r.headers.get("range") for r in s3.asked("GetObject") if r.key == image]
    assert sorted(filter(None, ranges)) == [f"bytes={len(BIG) // 2}-"]
    # nobody asked for what is another's
    for request in (r for r in s3.requests if r.by.reads is not None):
        thing = request.by.reads[-1].split("/")[3]
        assert "director/devices/" not in request.key or f"/devices/{thing}/" in request.key
    assert plant.damage() == []


def test_a_revoked_certificate_gets_nothing_and_what_runs_runs_on(
    plant: BucketPlant, roles: Provider, authority: Authority
) -> None:
    """The handshake ends it; the other device goes on; nothing is installed, nothing is broken."""
    plant.publish(plant.build("1.0.0"))
    assert plant.roll_out("one", "1.0.0")["state"] == "COMPLETED"
    (serial,) = roles.attached["a"]
    issued = next(i for i in plant.issued if i.serial == serial)
    authority.revoke(issued)
    roles.refuse_revoked(authority)
    plant.publish(plant.build("2.0.0"))
    plant.step(plant.start("two", "2.0.0"))
    plant.look()
    assert plant["a"].codes[-1] == "aws-certificate-revoked"
    assert plant.runs() == {"a": "app 1.0.0", "b": "app 2.0.0"}
    assert plant["a"].sound()
    said = plant["a"].process("once")
    assert said.returncode == 1
    assert "aws-certificate-revoked" in said.stderr
    assert "Traceback" not in said.stderr
