"""Devices' identities at AWS IoT: enrolment and revocation against an emulator of it.

The emulator enforces IAM policies, so the procedures run with nothing but what the rendered role
``enrol`` may do. What it does not model (exclusive attachment) is asserted on the requests.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from simulators.identities import START, Identity, running
from simulators.ministack import Account
from simulators.stopping import Killed

from ota import shipped, syncing
from ota.aws.client import client
from ota.errors import Malformed, Misuse, NotFound, NotPermitted, OtaError, Outage, Refusal
from ota.fleet.aws_identities import AwsThings
from ota.fleet.aws_things import IndexedThings, ListedThings
from ota.fleet.registry import Registry
from ota.identities import csr
from ota.identities.lifecycle import Lifecycle
from ota.identities.record import Keeper
from ota.infra import render, stacks, values

POLICY = "ota-device"
THING = "press-07"


class Director:
    """Remembers for whom everything was withdrawn."""

    def __init__(self) -> None:
        self.withdrawn: list[str] = []

    def withdraw(self, device: str, orders: Container[str], now: dt.datetime) -> dt.datetime | None:
        assert "ota-any-abc123-u1-w0-b0" in orders
        self.withdrawn.append(device)
        return now + dt.timedelta(days=3)


class World:
    """A registry with one device, an account, and the procedures between them."""

    def __init__(self, folder: Path, aws: Account) -> None:
        self.folder, self.aws = folder, aws
        self.registry = Registry(f"sqlite:///{folder}/registry.db")
        self.identity = Identity(THING)
        enrolment = self.identity.enrol({"app": running("app-1")})
        self.registry.register(enrolment, None, {}, "iot-jobs", START)
        self.director = Director()
        self.iot: Any = client("iot", region=aws.region)
        root = aws.client("iot")
        root.create_policy(
            policyName=POLICY, policyDocument='{"Version": "2012-10-17", "Statement": []}'
        )
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.written: list[str] = []

    def lifecycle(self, iot: Any = None) -> Lifecycle:
        things = AwsThings(iot or self.iot, (POLICY,))
        keeper = Keeper(self.folder / "aws")
        return Lifecycle(keeper, self.registry, lambda: self.director, lambda: things)

    def enrol(self, iot: Any = None, pem: bytes | None = None) -> str:
        asked = pem or request(self.key)
        return self.lifecycle(iot).enrol(THING, asked, self.written.append, now()).state

    def certificates(self) -> dict[str, str]:
        """Id -> status, of every certificate of the account."""
        found = self.aws.client("iot").list_certificates()["certificates"]
        return {c["certificateId"]: c["status"] for c in found}

    def attached(self) -> list[str]:
        return list(self.aws.client("iot").list_thing_principals(thingName=THING)["principals"])


def now() -> dt.datetime:
    """The emulator's certificates carry the real time."""
    return dt.datetime.now(dt.UTC).replace(microsecond=0)


def request(key: Any, name: str | None = THING, algorithm: Any = None) -> bytes:
    """A certificate request as a device makes it."""
    names = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(names))
    chosen = None if isinstance(key, ed25519.Ed25519PrivateKey) else algorithm or hashes.SHA256()
    return builder.sign(key, chosen).public_bytes(serialization.Encoding.PEM)


def allowed(aws: Account, role: str) -> list[dict[str, Any]]:
    """What the rendered role may do at AWS IoT, in the emulator's account and region.

    The emulator looks for actions on certificates and indexes on ``*``, where AWS takes an ARN.
    """
    folder = shipped.folder("playbooks") / "aws"
    text = (folder / "infra.toml").read_text().replace("111122223333", aws.id)
    found = values.read(text.replace("eu-central-1", aws.region).encode(), "infra.toml")
    policies = stacks.policies(stacks.parse(render.render(folder, found)), found)
    return [
        {
            "Effect": "Allow",
            "Action": list(s.actions),
            "Resource": ["*" if ":cert/" in r or ":index/" in r else r for r in s.resources],
        }
        for p in policies
        if p.kind == "identity" and p.owner == f"ota-{role}"
        for s in p.statements
        if s.actions[0].startswith("iot:")
    ]


@pytest.fixture(name="world")
def _world(tmp_path: Path, aws: Account, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The operator holds the rights of the rendered role ``enrol`` and no other."""
    aws.use(monkeypatch, aws.user(*allowed(aws, "enrol")))
    world = World(tmp_path, aws)
    yield world
    world.registry.close()


# -- enrolment -------------------------------------------------------------------------------------
def test_a_device_gets_a_certificate_for_its_own_key(world: World) -> None:
    """It holds the device's key and name, is active, attached to one thing and one policy."""
    assert world.enrol() == "active"
    found = x509.load_pem_x509_certificate(world.written[-1].encode())
    assert found.public_key() == world.key.public_key()
    assert list(world.certificates().values()) == ["ACTIVE"]
    (arn,) = world.attached()
    root = world.aws.client("iot")
    assert [p["policyName"] for p in root.list_attached_policies(target=arn)["policies"]] == [
        POLICY
    ]
    assert root.describe_thing(thingName=THING)["attributes"] == {"ota": "active"}


def test_again_changes_nothing(world: World) -> None:
    """The same command makes no second certificate."""
    world.enrol()
    before = world.certificates()
    assert world.enrol() == "active"
    assert world.certificates() == before
    assert world.written[0] == world.written[1]


class Recorder:
    """Passes every call on; ``before`` sees its name and arguments."""

    def __init__(self, real: Any, before: Callable[[str, dict[str, Any]], None]) -> None:
        self._real, self._before = real, before

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name in {"meta", "get_paginator"} or not callable(real):
            return real

        def call(**arguments: Any) -> Any:
            self._before(name, arguments)
            answer = real(**arguments)
            self._before(f"{name} done", arguments)
            return answer

        return call


def test_the_thing_is_attached_exclusively_and_activation_is_last(world: World) -> None:
    """The order of calls is the procedure's; the client id needs an exclusive attachment."""
    calls: list[tuple[str, dict[str, Any]]] = []
    world.enrol(Recorder(world.iot, lambda name, words: calls.append((name, words))))
    names = [name for name, _ in calls if not name.endswith(" done")]
    assert names.index("attach_policy") < names.index("attach_thing_principal")
    assert names.index("attach_thing_principal") < names.index("update_certificate")
    words = dict(calls)
    assert words["attach_thing_principal"]["thingPrincipalType"] == "EXCLUSIVE_THING"
    assert words["create_certificate_from_csr"]["setAsActive"] is False
    assert words["update_certificate"]["newStatus"] == "ACTIVE"


CALLS = (
    "create_thing",
    "create_certificate_from_csr",
    "attach_policy",
    "attach_thing_principal",
    "update_certificate",
    "update_thing",
)


@pytest.mark.parametrize("moment", [f"{c}{w}" for c in CALLS for w in ("", " done")])
def test_killed_at_any_call_it_goes_on(world: World, moment: str) -> None:
    """Before or after every call: the next run ends with one active certificate, no orphan."""

    def before(name: str, _words: dict[str, Any]) -> None:
        if name == moment:
            raise Killed

    with pytest.raises(Killed):
        world.enrol(Recorder(world.iot, before))
    active = [s for s in world.certificates().values() if s == "ACTIVE"]
    assert not active or world.written, "active before the device can have it"
    assert world.enrol() == "active"
    assert list(world.certificates().values()) == ["ACTIVE"]
    assert len(world.attached()) == 1


def test_a_service_that_certifies_another_key(world: World) -> None:
    """What AWS hands back is compared with the request: revoked, never attached, a refusal."""
    other = request(ec.generate_private_key(ec.SECP256R1())).decode()

    def swap(name: str, words: dict[str, Any]) -> None:
        if name == "create_certificate_from_csr":
            words["certificateSigningRequest"] = other

    with pytest.raises(Refusal) as caught:
        world.enrol(Recorder(world.iot, swap))
    assert caught.value.code == "certificate-key"
    assert list(world.certificates().values()) == ["REVOKED"]
    assert world.attached() == []
    assert world.written == []
    assert world.enrol() == "active"
    assert sorted(world.certificates().values()) == ["ACTIVE", "REVOKED"]


def test_another_key_needs_a_revocation_first(world: World) -> None:
    """A second request does not silently replace the first; after a revocation it does."""
    world.enrol()
    newer = request(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(NotPermitted) as caught:
        world.enrol(pem=newer)
    assert caught.value.code == "key-differs"
    assert list(world.certificates().values()) == ["ACTIVE"]
    world.lifecycle().revoke(THING, now(), keep_registered=True)
    assert world.enrol(pem=newer) == "active"
    assert sorted(world.certificates().values()) == ["ACTIVE", "REVOKED"]
    assert world.registry.device(THING).state == "active"


def test_who_is_not_registered_gets_nothing(world: World) -> None:
    """AWS makes nobody ours: first a signed enrolment, then a certificate."""
    with pytest.raises(NotFound):
        world.lifecycle().enrol(
            "stranger", request(world.key, "stranger"), world.written.append, now()
        )
    world.registry.retire(THING, START)
    with pytest.raises(NotPermitted) as caught:
        world.enrol()
    assert caught.value.code == "retired"
    assert world.certificates() == {}
    assert world.written == []


def test_the_report_key_is_not_taken_for_tls(world: World) -> None:
    """One key, one purpose."""
    pem = world.identity.signer.private_bytes
    key = serialization.load_pem_private_key(pem, None)
    with pytest.raises(NotPermitted) as caught:
        world.enrol(pem=request(key))
    assert caught.value.code == "csr-key"
    assert world.certificates() == {}


def test_without_the_right_nothing_is_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that may not certify: action and role are named; the registry stays as it was."""
    rest = [
        s for s in allowed(world.aws, "enrol") if "iot:CreateCertificateFromCsr" not in s["Action"]
    ]
    world.aws.use(monkeypatch, world.aws.user(*rest))
    iot = client("iot", region=world.aws.region)
    with pytest.raises(NotPermitted) as caught:
        world.enrol(iot)
    assert caught.value.code == "aws-denied"
    assert "iot:CreateCertificateFromCsr" in str(caught.value)
    assert world.certificates() == {}
    assert world.enrol() == "active"


# -- revocation ------------------------------------------------------------------------------------
def test_a_revoked_device_is_shut_out(world: World) -> None:
    """Certificates revoked and detached, orders withdrawn, reports refused; again changes nothing."""
    world.enrol()
    found = world.lifecycle().revoke(THING, now())
    assert list(world.certificates().values()) == ["REVOKED"]
    assert world.attached() == []
    assert world.director.withdrawn == [THING]
    assert found.exposed is not None
    assert world.registry.device(THING).state == "retired"
    with pytest.raises(Refusal) as caught:
        world.registry.record(world.identity.report(1), now())
    assert caught.value.code == "report-retired-device"
    attributes = world.aws.client("iot").describe_thing(thingName=THING)["attributes"]
    assert attributes == {"ota": "revoked"}
    again = world.lifecycle().revoke(THING, now())
    assert again.certificates == found.certificates


def test_every_certificate_of_the_thing_is_revoked(world: World) -> None:
    """One that somebody else attached, too."""
    world.enrol()
    root = world.aws.client("iot")
    foreign = root.create_keys_and_certificate(setAsActive=True)
    root.attach_thing_principal(thingName=THING, principal=foreign["certificateArn"])
    world.lifecycle().revoke(THING, now())
    assert set(world.certificates().values()) == {"REVOKED"}
    assert world.attached() == []


@pytest.mark.parametrize(
    "moment", ["update_certificate", "detach_policy", "detach_thing_principal"]
)
def test_a_revocation_that_was_killed_goes_on(world: World, moment: str) -> None:
    """Our own doors are closed first, so they hold even if AWS is never reached."""
    world.enrol()

    def before(name: str, _words: dict[str, Any]) -> None:
        if name == moment:
            raise Killed

    with pytest.raises(Killed):
        world.lifecycle(Recorder(world.iot, before)).revoke(THING, now())
    assert world.registry.device(THING).state == "retired"
    assert world.director.withdrawn == [THING]
    world.lifecycle().revoke(THING, now())
    assert list(world.certificates().values()) == ["REVOKED"]
    assert world.attached() == []


# -- requests --------------------------------------------------------------------------------------
WEAK = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
EC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("pem", "kind", "code"),
    [
        (b"", Malformed, "malformed"),
        (
            b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            Malformed,
            "malformed",
        ),
        (b"x" * (csr.LIMIT + 1), Malformed, "malformed"),
        (request(EC)[:-60], Malformed, "malformed"),
        (request(EC, "press-08"), NotPermitted, "csr-name"),
        (request(EC, None), NotPermitted, "csr-name"),
        (request(EC, "press-07\n"), NotPermitted, "csr-name"),
        (request(ec.generate_private_key(ec.SECP256K1())), NotPermitted, "csr-key"),
        (request(ed25519.Ed25519PrivateKey.generate()), NotPermitted, "csr-key"),
        (request(WEAK), NotPermitted, "csr-key"),
    ],
)
def test_a_request_that_is_none(pem: bytes, kind: type[OtaError], code: str) -> None:
    """Malformed, oversized, for another thing, of a weak key: each its own error."""
    with pytest.raises(kind) as caught:
        csr.read(pem, THING)
    assert caught.value.code == code


def test_a_request_signed_by_another_key() -> None:
    """Its signature must be its own key's."""
    der = x509.load_pem_x509_csr(request(EC)).public_bytes(serialization.Encoding.DER)
    broken = der[:-1] + bytes([der[-1] ^ 1])
    try:
        pem = x509.load_der_x509_csr(broken).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        pem = b"unreadable"
    with pytest.raises(Malformed):
        csr.read(pem, THING)


def test_a_damaged_record_is_an_outage(world: World) -> None:
    """Nothing is begun anew over what can not be read."""
    world.enrol()
    record = world.folder / "aws" / f"{THING}.json"
    assert record.stat().st_mode & 0o777 == 0o600
    record.write_text('{"schema":1')
    with pytest.raises(Outage) as caught:
        world.enrol()
    assert caught.value.code == "state-damaged"
    assert list(world.certificates().values()) == ["ACTIVE"]


# -- what AWS knows of the fleet ---------------------------------------------------------------------
def test_sync_brings_labels_and_compares(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attributes, type and groups become labels of their own; differences are listed; only once."""
    root = world.aws.client("iot")
    root.create_thing_type(thingTypeName="press")
    root.create_thing(
        thingName=THING,
        thingTypeName="press",
        attributePayload={"attributes": {"site": "lyon", "odd": "a,b"}},
    )
    root.create_thing(thingName="press-99")
    root.create_thing_group(thingGroupName="hall-1")
    root.add_thing_to_thing_group(thingName=THING, thingGroupName="hall-1")
    other = Identity("press-10")
    world.registry.register(other.enrol({}), None, {}, "spool", START)
    world.registry.label(THING, {"line": "a"})
    world.aws.use(monkeypatch, world.aws.user(*allowed(world.aws, "rollout")))
    iot = client("iot", region=world.aws.region)
    with pytest.raises(Misuse) as caught:
        syncing.sync(IndexedThings(iot), world.registry, write=True)
    assert caught.value.code == "aws-no-index"
    configuration = {"thingIndexingMode": "REGISTRY"}
    root.update_indexing_configuration(thingIndexingConfiguration=configuration)
    dry = syncing.sync(IndexedThings(iot), world.registry, write=False)
    assert world.registry.device(THING).labels == {"line": "a"}
    found = syncing.sync(IndexedThings(iot), world.registry, write=True)
    assert found.rows == dry.rows
    assert dict(world.registry.device(THING).labels) == {
        "line": "a",
        "aws/site": "lyon",
        "aws/type": "press",
        "aws-group/hall-1": "member",
    }
    said = {(r.device, r.finding) for r in found.rows}
    assert said == {
        (THING, "labels"),
        (THING, "left-out"),
        ("press-99", "aws-only"),
        ("press-10", "not-in-aws"),
    }
    again = syncing.sync(IndexedThings(iot), world.registry, write=True)
    assert again.written == 0
    root.update_thing(thingName=THING, attributePayload={"attributes": {"site": "turin"}})
    syncing.sync(IndexedThings(iot), world.registry, write=True)
    assert world.registry.device(THING).labels["aws/site"] == "turin"
    listed = syncing.sync(ListedThings(iot), world.registry, write=False)
    assert (listed.things, listed.devices) == (2, 2)


def test_sync_takes_nobody_in_and_puts_nobody_out(world: World) -> None:
    """A thing that AWS calls revoked stays in service here until a person says so, and is named."""
    root = world.aws.client("iot")
    root.create_thing(thingName=THING, attributePayload={"attributes": {"ota": "revoked"}})
    found = syncing.sync(ListedThings(root), world.registry, write=True)
    assert world.registry.device(THING).state == "active"
    assert [r.finding for r in found.rows] == ["labels", "revoked-there"]
    world.registry.retire(THING, START)
    root.update_thing(thingName=THING, attributePayload={"attributes": {"ota": "active"}})
    found = syncing.sync(ListedThings(root), world.registry, write=True)
    assert "retired-here" in {r.finding for r in found.rows}
    assert world.registry.device(THING).state == "retired"
