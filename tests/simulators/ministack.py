"""AWS for the tests: ministack, confined to 127.0.0.1, in an environment of its own.

One server serves many tests: each takes an account of its own, which sees nothing of the others.
IoT registry, Jobs and jobs-data, rules, MQTT with mTLS, SQS, S3, KMS, IAM and STS. Its lock lies
beside this file, and ``.venv-ministack`` is made where ``make test`` has not made it. The fixtures
``ministack`` (the server) and ``aws`` (an account) stand in ``tests/conftest.py``.

With ``auth`` signatures of requests, IAM policies of users and roles, and IoT policies of
certificates are enforced; an account's own credentials are its root's.

>>> def test_something(aws: Account, monkeypatch):
...     aws.use(monkeypatch)                     # boto3's own environment, nothing of this machine
...     aws.client("s3").create_bucket(...)
...     queue = aws.reports()                    # ota/+/report -> IoT rule -> SQS
...     thing = aws.thing("gw-1")                # certificate, key, CA: files for MQTT
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

ROOT = Path(__file__).resolve().parents[2]
REGION = "eu-west-1"
SECRET = "a throw-away secret"
REPORT_SQL = "SELECT encode(*, 'base64') AS report, topic(2) AS thing FROM 'ota/+/report'"
_SERVICES = ("IOT", "IOT_DATA_PLANE", "IOT_JOBS_DATA_PLANE", "SQS", "S3", "KMS", "IAM", "STS")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Server:
    """A running ministack: ``url`` for every service, ``mqtt`` (port, 0: none) with its ``ca``."""

    url: str
    mqtt: int
    ca: Path
    folder: Path
    pid: int

    def account(self) -> Account:
        """A new, empty account."""
        return Account(self, f"{os.getpid() % 1000:03}{next(_numbers):09}")


@dataclass(frozen=True)
class Thing:
    """A registered thing and what its MQTT client needs."""

    name: str
    certificate: Path
    key: Path
    ca: Path
    port: int
    arn: str
    principal: str
    host: str = "127.0.0.1"


@dataclass(frozen=True)
class Account:
    """One account in one region, seen with its root's credentials."""

    server: Server
    id: str
    region: str = REGION

    def environment(self, credentials: Mapping[str, str] | None = None) -> dict[str, str]:
        """What boto3 is told: endpoints, region, credentials, and nothing of this machine."""
        return {
            "AWS_ENDPOINT_URL": self.server.url,
            **{f"AWS_ENDPOINT_URL_{name}": self.server.url for name in _SERVICES},
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            **(credentials or {"AWS_ACCESS_KEY_ID": self.id, "AWS_SECRET_ACCESS_KEY": SECRET}),
        }

    def use(
        self, monkeypatch: pytest.MonkeyPatch, credentials: Mapping[str, str] | None = None
    ) -> None:
        """Make it the environment of this process."""
        for name in [n for n in os.environ if n.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in self.environment(credentials).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it remembers credentials

    def client(self, service: str) -> Any:
        """The account's own client, whatever the environment says."""
        return boto3.client(
            service,
            endpoint_url=self.server.url,
            region_name=self.region,
            aws_access_key_id=self.id,
            aws_secret_access_key=SECRET,
        )

    def user(self, *statements: Mapping[str, Any]) -> dict[str, str]:
        """Credentials (as variables) of a new user whose policy is these statements."""
        iam, name = self.client("iam"), f"user-{next(_numbers)}"
        iam.create_user(UserName=name)
        policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_user_policy(UserName=name, PolicyName="only", PolicyDocument=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def thing(self, name: str, policy: Mapping[str, Any] | None = None) -> Thing:
        """A thing with a certificate; without a ``policy`` it may do what an agent does."""
        iot = self.client("iot")
        arn = iot.create_thing(thingName=name)["thingArn"]
        made = iot.create_keys_and_certificate(setAsActive=True)
        principal = made["certificateArn"]
        document = json.dumps(policy or self.device_policy(name))
        iot.create_policy(policyName=f"only-{name}", policyDocument=document)
        iot.attach_policy(policyName=f"only-{name}", target=principal)
        iot.attach_thing_principal(thingName=name, principal=principal)
        folder = self.server.folder / "things" / self.id / name
        folder.mkdir(parents=True)
        (folder / "certificate.pem").write_text(made["certificatePem"])
        key = folder / "key.pem"
        key.touch(mode=0o600)
        key.write_text(made["keyPair"]["PrivateKey"])
        return Thing(
            name,
            folder / "certificate.pem",
            key,
            self.server.ca,
            self.server.mqtt,
            arn,
            principal,
        )

    def device_policy(self, name: str) -> dict[str, Any]:
        """Connect as ``NAME`` and ``NAME-ota``, its own jobs topics, and its own reports."""
        arn = f"arn:aws:iot:{self.region}:{self.id}"
        jobs = f"$aws/things/{name}/jobs/*"
        return {
            "Version": "2012-10-17",
            "Statement": [
                _allow("iot:Connect", f"{arn}:client/{name}", f"{arn}:client/{name}-ota"),
                _allow("iot:Publish", f"{arn}:topic/{jobs}", f"{arn}:topic/ota/{name}/report"),
                _allow("iot:Subscribe", f"{arn}:topicfilter/{jobs}"),
                _allow("iot:Receive", f"{arn}:topic/{jobs}"),
            ],
        }

    def reports(self, name: str = "ota-reports", **attributes: str) -> str:
        """URL of a new queue that an IoT rule fills with what devices publish as reports."""
        sqs, iot = self.client("sqs"), self.client("iot")
        queue = str(sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"])
        action = {
            "sqs": {"queueUrl": queue, "roleArn": self.role(f"{name}-rule"), "useBase64": False}
        }
        iot.create_topic_rule(
            ruleName=name.replace("-", "_"),
            topicRulePayload={
                "sql": REPORT_SQL,
                "awsIotSqlVersion": "2016-03-23",
                "actions": [action],
            },
        )
        return queue

    def role(self, name: str, service: str = "iot.amazonaws.com") -> str:
        """ARN of a new role that this service may take on."""
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        made = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
        return str(made["Role"]["Arn"])


def _allow(action: str, *resources: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": list(resources)}


# -- the server ----------------------------------------------------------------------------------
@contextlib.contextmanager
def running(*, auth: bool = True, mqtt: bool = True) -> Iterator[Server]:
    """Run it for as long as the block lasts."""
    python = interpreter()
    with tempfile.TemporaryDirectory(prefix="ministack-") as name:
        folder = Path(name)
        process, port, mqtt_port = _started(python, folder, auth=auth, mqtt=mqtt)
        try:
            url = f"http://127.0.0.1:{port}"
            ca = folder / "ca.pem"
            if mqtt:
                ca.write_bytes(_get(f"{url}/_ministack/iot/ca.pem"))
            yield Server(url, mqtt_port, ca, folder, process.pid)
        finally:
            process.kill()
            process.wait()


def interpreter() -> Path:
    """Its interpreter; the environment is made where ``make test`` has not made it."""
    with (ROOT / "tests" / "simulators" / "ministack.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        words = ["make", "-s", ".venv-ministack/.stamp"]
        subprocess.run(words, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=240)
    return ROOT / ".venv-ministack" / "bin" / "python"


def _started(
    python: Path, folder: Path, *, auth: bool, mqtt: bool
) -> tuple[subprocess.Popen[bytes], int, int]:
    """Its process, HTTP port and MQTT port; another try where a port was taken meanwhile."""
    log = folder / "log"
    for _ in range(3):
        port, mqtt_port = free_port(), free_port() if mqtt else 0
        env = _environment(folder, port, mqtt_port, auth=auth)
        words = [python, "-P", Path(__file__).with_name("ministack_loopback.py")]
        with log.open("wb") as out:
            process = subprocess.Popen(words, cwd=folder, env=env, stdout=out, stderr=out)
        if _ready(process, port) and b"failed to bind" not in log.read_bytes():
            return process, port, mqtt_port
        process.kill()
        process.wait()
    raise RuntimeError(f"ministack does not start: {log.read_text()[-2000:]}")


def _environment(folder: Path, port: int, mqtt: int, *, auth: bool) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "1" if mqtt else "0",
        "IOT_MTLS_PORT": str(mqtt or 8883),
        "SFTP_ENABLED": "0",
        "AUTH": "true" if auth else "false",
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "DOCKER_HOST": f"unix://{folder}/no-docker.sock",
        "S3_DATA_DIR": str(folder / "s3"),
        "STATE_DIR": str(folder / "state"),
        "LOG_LEVEL": "WARNING",
    }


def _ready(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError):
            _get(f"http://127.0.0.1:{port}/_ministack/ready")
            return True
        time.sleep(0.05)
    return False


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return bytes(answer.read())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
