"""A plant on an emulated AWS: the store in S3, orders as IoT Jobs, agents on MQTT with mTLS.

Devices are enrolled with requests of their own, and hold nothing of AWS but the certificate that
came back. They read the store through an HTTPS-less front on loopback, as a CDN would serve it; the
front is trusted with nothing.

>>> plant = AwsPlant(folder, aws, ["p-00", "p-01"])
>>> plant.roll_out("one", "1.0.0")
"""

from __future__ import annotations

import contextlib
import http.server
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from simulators.ministack import Account
from simulators.plant import Gateway, Part, Plant
from simulators.serving import in_thread

from ota.settings import settings

BUCKET = "ota-store"
_OTA = """
[aws]
policies = ["ota-device"]
[couriers.iot-jobs]
queue = "{queue}"
wait = 1
account = "{account}"
"""
_FEED = """\
[feed]
kind = "iot-jobs"
endpoint = "127.0.0.1"
port = {port}
certificate = "{home}/tls.crt"
key = "{home}/tls.key"
ca = "{ca}"
fallback = []
start_jitter = 0
timeout = 5
"""


class Front(contextlib.AbstractContextManager["Front"]):
    """Serves a bucket's objects below ``/``, read with the account's own rights."""

    def __init__(self, aws: Account) -> None:
        s3 = aws.client("s3")

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    found = s3.get_object(Bucket=BUCKET, Key=f"plant{self.path}")
                except s3.exceptions.NoSuchKey:
                    self.send_error(404)
                    return
                data = found["Body"].read()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.send_header("ETag", found["ETag"])
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the base's name
                """Nothing."""

        self._open = contextlib.ExitStack()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._open.enter_context(in_thread(server))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._open.close()


class AwsGateway(Gateway):
    """A device whose hints are jobs."""

    def __init__(self, plant: AwsPlant, device: str, parts: Sequence[Part]) -> None:
        super().__init__(plant, device, parts)
        self.aws = plant.aws
        text = self.toml.read_text()
        old = f'[feed]\nkind = "spool"\npath = "{self.spool}"\n'
        assert old in text, text
        words = {"port": self.aws.server.mqtt, "ca": self.aws.server.ca, "home": self.home}
        self.toml.write_text(text.replace(old, _FEED.format(**words)))

    def request(self) -> bytes:
        """A TLS key that never leaves this folder, and the request for it."""
        key = ec.generate_private_key(ec.SECP256R1())
        file = self.home / "tls.key"
        file.touch(mode=0o600)
        pkcs8 = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
        file.write_bytes(key.private_bytes(*pkcs8, serialization.NoEncryption()))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.id)])
        made = x509.CertificateSigningRequestBuilder().subject_name(name)
        return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    @property
    def hinted(self) -> bool:
        """Whether a job waits for it."""
        found = self.aws.client("iot-jobs-data").get_pending_job_executions(thingName=self.id)
        return bool(found["queuedJobs"] or found["inProgressJobs"])


class AwsPlant(Plant):
    """See the module."""

    def __init__(self, folder: Path, aws: Account, front: Front) -> None:
        self.aws, self.front = aws, front
        aws.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": aws.region}
        )
        self.queue = aws.reports()
        super().__init__(folder)
        s3 = aws.client("s3")
        for path in (p for p in self.store.rglob("*") if p.is_file() and ".tmp" not in p.parts):
            name = f"plant/{path.relative_to(self.store)}"
            s3.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())
        toml = self.workspace / settings.FILE
        text = toml.read_text().replace("file:store", f"s3://{BUCKET}/plant")
        toml.write_text(text + _OTA.format(queue=self.queue, account=aws.id))
        self.url = front.url
        self.reopen()

    def gateway(self, device: str, parts: Sequence[Part]) -> Gateway:
        return AwsGateway(self, device, parts)

    def enrol(self, *devices: str, policy: str) -> None:
        """Provision, register, then certificates for requests of their own."""
        iot = self.aws.client("iot")
        iot.create_policy(policyName="ota-device", policyDocument=policy)
        made = {device: AwsGateway(self, device, (Part(),)) for device in devices}
        enrolments = [gateway.enrol() for gateway in made.values()]
        joined = self.wiring.join(enrolments, None, {}, "iot-jobs")
        assert {j.result for j in joined} == {"registered"}, joined
        self.devices |= made
        for gateway in made.values():
            (gateway.home / "tls.csr").write_bytes(gateway.request())
        for device, gateway in made.items():
            pem = (gateway.home / "tls.csr").read_bytes()
            keep = gateway.home / "tls.crt"
            record = self.wiring.lifecycle.enrol(
                device, pem, lambda text, to=keep: to.write_text(text), self.now()
            )
            assert record.state == "active"
