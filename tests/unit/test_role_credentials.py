"""Credentials from a certificate: real mutual TLS, checked answers, renewed in time, each fault named."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from simulators.bucket_device import THING, BucketDevice, bucket_device
from simulators.pki import DAY, Authority

from signing.errors import Outage


@pytest.fixture
def device(tmp_path: Path) -> Iterator[BucketDevice]:
    with bucket_device(tmp_path) as made:
        yield made


def fault(device: BucketDevice) -> Outage:
    """What a fresh process says of it."""
    with pytest.raises(Outage) as caught:
        device.credentials().current()
    assert caught.value.remedy
    assert str(caught.value).isprintable()
    return caught.value


def test_a_certificate_becomes_credentials_of_its_own_thing(device: BucketDevice) -> None:
    """The role alias is asked with the thing's name; what comes is what S3 knows."""
    found = device.credentials().current()
    assert device.roles.asked == [THING]
    assert device.s3.keys[found.keys.id].secret == found.keys.secret
    assert found.ahead == timedelta(0)
    assert found.keys.secret not in repr(found)


# -- how long they live --------------------------------------------------------------------------
def test_they_are_renewed_before_they_end_at_a_random_moment(device: BucketDevice) -> None:
    """Within the third quarter of their life; two processes differ; used without asking before."""
    moments = set()
    for _ in range(5):
        found = device.credentials().current()
        assert 0.5 * 3590 <= found.renew_at - found.begun <= 0.75 * 3610
        assert found.ends_at - found.begun < 3600
        moments.add(found.renew_at)
    assert len(moments) == 5
    device.roles.asked.clear()
    credentials = device.credentials()
    first = credentials.current()
    device.clock.seconds = first.renew_at - 1
    assert credentials.current() is first
    device.clock.seconds = first.renew_at + 1
    second = credentials.current()
    assert second.keys.id != first.keys.id
    assert len(device.roles.asked) == 2


def test_while_renewal_fails_the_old_ones_serve_until_their_end(device: BucketDevice) -> None:
    """And the provider is not asked at every request meanwhile."""
    credentials = device.credentials()
    first = credentials.current()
    device.roles.allowed = False
    device.clock.seconds = first.renew_at + 1
    device.roles.asked.clear()
    for _ in range(5):
        assert credentials.current().keys == first.keys
    assert len(device.roles.asked) == 1
    device.clock.seconds = first.ends_at + 1
    with pytest.raises(Outage) as caught:
        credentials.current()
    assert caught.value.code == "aws-denied"
    device.roles.allowed = True
    assert credentials.current().keys.id != first.keys.id


@pytest.mark.parametrize("wrong", [timedelta(days=-20), timedelta(hours=5)])
def test_a_wrong_wall_clock_neither_prolongs_nor_ends_them(
    device: BucketDevice, wrong: timedelta
) -> None:
    """Their life is measured by AWS's clock, and the difference is kept for signing."""
    device.clock.wrong = wrong
    found = device.credentials().current()
    assert abs(found.ahead + wrong) < timedelta(seconds=30)
    assert 0.5 * 3590 <= found.renew_at - found.begun <= 0.75 * 3610


def test_refused_ones_are_renewed_but_not_brand_new_ones(device: BucketDevice) -> None:
    """A bucket that denies everything does not make a device ask at every request."""
    credentials = device.credentials()
    first = credentials.current()
    assert credentials.renewed(first) is first
    device.clock.seconds += 31
    assert credentials.renewed(first).keys.id != first.keys.id


# -- what the provider says ------------------------------------------------------------------------
def test_a_certificate_that_is_not_the_things(device: BucketDevice) -> None:
    """Named with the thing and the command that attaches it."""
    device.changes["thing"] = "press-08"
    found = fault(device)
    assert found.code == "aws-thing"
    assert "press-08" in str(found)
    assert "attach-thing-principal" in found.remedy


def test_an_iot_policy_that_does_not_allow_it(device: BucketDevice) -> None:
    """Which action, on what, in whose policy."""
    device.roles.allowed = False
    found = fault(device)
    assert found.code == "aws-denied"
    assert (
        "iot:AssumeRoleWithCertificate on arn:aws:iot:eu-west-1:ACCOUNT:rolealias/ota-device"
        in (found.remedy)
    )
    assert "IoT policy of the device's certificate" in found.remedy


def test_a_role_alias_that_is_not_there(device: BucketDevice) -> None:
    """Named."""
    device.changes["role_alias"] = "ota=other"
    found = fault(device)
    assert (found.code, found.subject) == ("aws-alias", "ota=other")


SAYS: list[tuple[int, str, str]] = [
    (400, "Unable to assume the role, or the role to assume does not exist", "aws-role"),
    (400, "The requested CredentialDurationSeconds exceeds the MaxSessionDuration", "aws-role"),
    (403, "Certificate is invalid on this endpoint", "aws-certificate-refused"),
    (429, "Too Many Requests", "aws-throttled"),
    (500, "Internal failure", "aws"),
    (302, "elsewhere", "aws-answer"),
]


@pytest.mark.parametrize(("status", "message", "code"), SAYS)
def test_each_answer_is_an_error_of_its_own(
    device: BucketDevice, status: int, message: str, code: str
) -> None:
    """By status and words, since the provider has no codes; its words are shown."""
    device.roles.before = lambda h: bool(h.say(status, {"message": message}) or True)
    found = fault(device)
    assert found.code == code
    assert message in str(found)


# -- answers that are none -------------------------------------------------------------------------
GOOD = {
    "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
    "secretAccessKey": "s",
    "sessionToken": "t",
    "expiration": "{later}",
}


def body(**changes: Any) -> dict[str, Any]:
    return {"credentials": {k: v for k, v in (GOOD | changes).items() if v is not None}}


HOSTILE: dict[str, Any] = {
    "not JSON": b"<html>",
    "empty": b"",
    "a list": [],
    "no credentials": {"credentials": None},
    "twice": b'{"credentials": {}, "credentials": {}}',
    "deep": b"[" * 5000,
    "too long": b'{"x": "' + b"x" * 20_000 + b'"}',
    "no token": body(sessionToken=None),
    "a line in the token": body(sessionToken="t\r\nx-amz-acl: public"),
    "a line at its end": body(sessionToken="t\n"),
    "no ASCII": body(secretAccessKey="ü"),
    "a slash in the id": body(accessKeyId="ASIA/20260101/eu-west-1"),
    "a number": body(sessionToken=3),
    "no time": body(expiration="tomorrow"),
    "ended": body(expiration="2020-01-01T00:00:00Z"),
    "for ever": body(expiration="2199-01-01T00:00:00Z"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_answer_that_is_not_credentials_is_not_used(device: BucketDevice, name: str) -> None:
    """Malformed, hostile, too long, ended: one code, and nothing of it in a request."""
    later = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    answer = HOSTILE[name]
    if isinstance(answer, dict) and answer.get("credentials"):
        inner = {k: later if v == "{later}" else v for k, v in answer["credentials"].items()}
        answer = {"credentials": inner}
    device.roles.before = lambda h: bool(h.say(200, answer) or True)
    assert fault(device).code == "aws-answer"
    assert device.s3.requests == []


def drip(handler: Any) -> bool:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(40):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        time.sleep(0.1)
    return True


def test_an_answer_that_drips_ends_in_time(device: BucketDevice) -> None:
    """A byte now and then stays within every single limit, and not within the whole."""
    device.total = 1.0
    device.roles.before = drip
    began = time.monotonic()
    assert fault(device).code == "aws-slow"
    assert time.monotonic() - began < 4


# -- connections -----------------------------------------------------------------------------------
def test_nobody_listens(device: BucketDevice) -> None:
    """A refused connection is an outage of its own."""
    device.changes["credentials_endpoint"] = "localhost:9"
    assert fault(device).code == "aws-unreachable"


def test_somebody_elses_server_gets_nothing(device: BucketDevice, tmp_path: Path) -> None:
    """A certificate that ``ca`` does not vouch for, or another name: the thing is not even told."""
    stranger = Authority(tmp_path / "stranger", "somebody else")
    device.changes["ca"] = str(stranger.ca)
    assert fault(device).code == "aws-tls"
    assert device.roles.asked == []


def test_an_inactive_certificate_is_refused_in_the_handshake(
    device: BucketDevice, tmp_path: Path
) -> None:
    """Of another authority, revoked, or expired: told apart."""
    foreign = Authority(tmp_path / "foreign", "somebody else").issue(THING)
    device.changes |= {"certificate": str(foreign.certificate), "key": str(foreign.key)}
    assert fault(device).code == "aws-certificate-refused"
    old = device.authority.issue(THING, valid=(-2 * DAY, -DAY))
    device.changes |= {"certificate": str(old.certificate), "key": str(old.key)}
    assert fault(device).code == "aws-certificate-expired"
    device.authority.revoke(device.issued)
    device.roles.refuse_revoked(device.authority)
    device.changes.clear()
    assert fault(device).code == "aws-certificate-revoked"
    assert device.roles.asked == []


def test_a_clock_before_the_servers_certificate_is_told_apart(tmp_path: Path) -> None:
    """A device that woke up in 2001 does not look for an attacker, but at its clock."""
    script = (
        "import sys\nfrom ota.agent.aws_options import AwsOptions\n"
        "from ota.agent.role_credentials import RoleCredentials\n"
        "from signing.errors import Outage\n"
        "names = ('credentials_endpoint', 'certificate', 'key', 'ca')\n"
        "more = dict(zip(names, sys.argv[1:]))\n"
        "options = AwsOptions(region='eu-west-1', role_alias='ota-device', thing='x', **more)\n"
        "try:\n    RoleCredentials(options, connect=5, read=5).current()\n"
        "except Outage as e:\n    print(e.code)\n"
    )
    with bucket_device(tmp_path) as device:
        options = device.options
        words = (options.credentials_endpoint, options.certificate, options.key, options.ca)
        said = subprocess.run(
            ["faketime", "2001-01-01 00:00:00", sys.executable, "-c", script, *words],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert said.stdout.strip() == "aws-clock"


FILES: dict[str, Callable[[BucketDevice], None]] = {
    "no certificate": lambda d: d.issued.certificate.unlink(),
    "no key": lambda d: d.issued.key.unlink(),
    "another's key": lambda d: d.issued.key.write_bytes(
        d.authority.issue("other").key.read_bytes()
    ),
    "no PEM": lambda d: d.issued.certificate.write_bytes(b"\x00"),
    "a key for everybody": lambda d: d.issued.key.chmod(0o644),
    "no authority": lambda d: d.authority.ca.write_bytes(b"none"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_can_not_be_used_are_named(device: BucketDevice, name: str) -> None:
    """Asked for at each renewal, so that a certificate that is renewed needs no restart."""
    FILES[name](device)
    found = fault(device)
    assert found.code == "aws-identity"
    assert found.subject in str(found)


def test_a_renewed_certificate_needs_no_restart(device: BucketDevice) -> None:
    """The files are read again for the next credentials."""
    credentials = device.credentials()
    first = credentials.current()
    fresh = device.authority.issue(THING)
    device.roles.attached[THING] = {fresh.serial}
    device.issued.certificate.write_bytes(fresh.certificate.read_bytes())
    device.issued.key.write_bytes(fresh.key.read_bytes())
    device.clock.seconds = first.renew_at + 1
    assert credentials.current().keys.id != first.keys.id
