"""A whole ``ota-agent`` on MQTT: a real process, a real Mosquitto with mTLS, a strict Jobs service.

The device polls once in an hour here, so whatever happens sooner was brought by the feed.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulators import broker as brokers
from simulators import jobs_service, softhsm
from simulators.agentcli import Device
from simulators.broker import Broker
from simulators.feed_sides import hint, until
from simulators.jobs_model import Execution
from simulators.jobs_service import JobsService
from simulators.pki import Issued

from ota.agent import identity
from signing import enrolment, report, statement, strict
from signing.report import Report

FIRST = "ota-app-1-aaaaaa-u1-w1-b1"
SECOND = "ota-app-2-bbbbbb-u1-w0-b0"
FEED = """kind = "iot-jobs"
endpoint = "127.0.0.1"
port = {port}
certificate = "{certificate}"
key = "{key}"
ca = "{ca}"
fallback = []
start_jitter = 0
timeout = 5
"""
POLL = "[poll]\ninterval = 3600\n"


class Gateway:
    """One provisioned device on one broker."""

    def __init__(self, folder: Path, broker: Broker, service: JobsService, thing: Issued) -> None:
        self.folder = folder
        self.service = service
        words = {"certificate": thing.certificate, "key": thing.key, "ca": broker.authority.ca}
        feed = FEED.format(port=broker.port, **words)
        self.device = Device(folder, feed=feed, extra=POLL)
        self.device.provision()
        self.log = folder / "log"
        self._seen = len(service.reports)

    def job(self, order: str = FIRST) -> Execution:
        """What AWS knows."""
        return self.service.jobs.execution(order, "press-07")

    def give(self, order: str = FIRST, document: bytes = b"") -> None:
        """A job."""
        self.service.jobs.create(order, document or hint(order), "press-07")

    def ended(self, order: str = FIRST) -> str:
        """The job's state once it has ended; an error when it does not."""
        ends = {"SUCCEEDED", "FAILED", "REJECTED"}
        found = until(lambda: self.job(order).status in ends, 30.0)
        assert found, f"{self.job(order)}\n{self.log.read_text()}"
        return self.job(order).status

    def reports(self) -> list[Report]:
        """What arrived from this device, verified."""
        key = identity.load(self.device.state / "identity").public_key
        sent = [data for name, data in self.service.reports[self._seen :] if name == "press-07"]
        return [report.read(statement.verify("report", data, [key])) for data in sent]

    def running(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """The agent."""
        return self.device.running(self.log)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with brokers.running(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def service(broker: Broker) -> Iterator[JobsService]:
    with jobs_service.serving(broker) as running:
        yield running


@pytest.fixture
def gateway(tmp_path: Path, broker: Broker, service: JobsService) -> Gateway:
    return Gateway(tmp_path / "gw", broker, service, broker.authority.issue("press-07"))


def test_jobs_from_the_first_to_one_that_goes_back(gateway: Gateway) -> None:
    """Installed, refused, unknown, failed, denied: the job ends as the device has signed it."""
    device = gateway.device
    with gateway.running() as process:
        # installed
        device.ship()
        gateway.give()
        assert gateway.ended() == "SUCCEEDED"
        assert device.slot.read_bytes() == b"one"
        # an attacker edits the next job's document: refused, signed, nothing changes
        gateway.give(SECOND, hint(SECOND).replace(b'"schema"', b'"run":"curl evil","schema"'))
        assert gateway.ended(SECOND) == "REJECTED"
        assert gateway.job(SECOND).details["code"] == "hint-malformed"
        assert device.slot.read_bytes() == b"one"
        device.ship("app/app-2.bin", b"two", order=SECOND)
        # an attacker makes up an order: the director knows nothing of it
        gateway.give("ota-app-9-zzzzzz-u1-w0-b0")
        assert gateway.ended("ota-app-9-zzzzzz-u1-w0-b0") == "FAILED"
        # a release that fails here: taken back, and never tried again
        device.healthy.unlink()
        third = "ota-app-3-cccccc-u1-w0-b0"
        device.ship("app/app-3.bin", b"bad", order=third)
        gateway.give(third)
        assert gateway.ended(third) == "REJECTED"
        assert gateway.job(third).details["code"] == "unhealthy"
        again = "ota-app-3-cccccc-u2-w0-b0"
        device.world.assign("app/app-3.bin", order=again)
        device.publish()
        gateway.give(again)
        assert gateway.ended(again) == "REJECTED"
        assert gateway.job(again).details["code"] == "denied"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    told = gateway.reports()
    codes = [(r.code, r.update.outcome if r.update else "") for r in told]
    assert ("hint-malformed", "") in codes
    assert ("unhealthy", "reverted") in codes
    assert len({r.counter for r in told}) == len(told)
    digests = {strict.digest(data) for _, data in gateway.service.reports}
    jobs = [e for e in gateway.service.jobs.executions if e.thing == "press-07"]
    assert all(e.details["report"] in digests for e in jobs)


def test_killed_in_the_middle(gateway: Gateway) -> None:
    """The execution that is IN_PROGRESS comes again, the update goes on, and its end is told once."""
    gateway.device.ship()
    with gateway.running() as process:
        gateway.give()
        assert until(lambda: gateway.job().details.get("phase"), 30.0)
        process.kill()
        process.wait()
    with gateway.running():
        assert gateway.ended() == "SUCCEEDED"
    assert gateway.device.slot.read_bytes() == b"one"
    assert len({r.update.outcome for r in gateway.reports() if r.update}) == 2


def test_offline_at_its_end(tmp_path: Path) -> None:
    """A broker that was away gets the reports soon after it is back, not at the next look."""
    with brokers.running(tmp_path / "broker") as broker, jobs_service.serving(broker) as service:
        gateway = Gateway(tmp_path / "gw", broker, service, broker.authority.issue("press-07"))
        broker.stop()
        gateway.device.ship()
        with gateway.running():
            assert until(gateway.device.slot.exists, 30.0)
            assert until(lambda: "feed-unreachable" in gateway.log.read_text(), 30.0)
            gateway.give()
            broker.start()
            service.again()
            assert until(lambda: [r for r in gateway.reports() if r.event == "outcome"], 30.0)
            assert gateway.ended() == "SUCCEEDED"


def test_one_look_over_mqtt(gateway: Gateway, broker: Broker) -> None:
    """``once`` waits for the feed's first word, ends the job, and says what keeps it from a feed."""
    device = gateway.device
    device.ship()
    gateway.give()
    said = device.call("once")
    assert (said.code, said.out) == (0, "app committed\n")
    assert gateway.job().status == "SUCCEEDED"
    assert device.call("status", "-o", "json").json["feed"] == {"kind": "iot-jobs", "trouble": ""}
    assert device.call("once").err == ""
    device.config.write_text(
        device.config.read_text().replace(f"port = {broker.port}", f"port = {brokers.free_port()}")
    )
    said = device.call("once")
    assert said.code == 0
    assert said.err.startswith("feed-unreachable: 127.0.0.1:")
    assert "next: " in said.err
    assert "feed-unreachable" in device.call("status").out


def test_reports_signed_by_a_token(tmp_path: Path) -> None:
    """The identity's key is on a PKCS#11 token: enrolled and signed there; no key file is made."""
    token = softhsm.new_token()
    token.make("ecdsa-p256", 7)
    pin = tmp_path / "pin"
    pin.touch(mode=0o600)
    pin.write_text(f"{token.pin}\n")
    key = f"hsm:7?label={token.label}&module={softhsm.module()}"
    extra = f'[identity]\nkey = "{key}"\npin = "file:{pin}"\n'
    device = Device(tmp_path / "gw", extra=extra)
    device.provision()
    folder = device.state / "identity"
    assert [p.name for p in folder.iterdir()] == ["enrolment.json"]
    enrolled = enrolment.verify((folder / "enrolment.json").read_bytes())
    device.ship()
    assert device.call("once").code == 0
    assert device.call("verify").out == "sound\n"
    sent = sorted((device.folder / "spool" / "reports").glob("[0-9]*"))
    public = enrolment.key_from_dict(enrolled.key)
    assert statement.verify("report", sent[-1].read_bytes(), [public]).body["device"] == "press-07"
    pin.write_text("9999\n")
    said = device.call("once")
    assert said.code == 4
    assert "PIN" in said.err
    pin.chmod(0o644)
    assert "secret-readable" in device.call("once").err


WITHOUT = """
import sys
from ota.agent.main import main
code = main(["once", "--config", sys.argv[1]])
heavy = ("paho", "awscrt", "ota.agent.feeds.iot", "ota.agent.feeds.wire")
print(code, sorted(m for m in sys.modules if m.startswith(heavy)))
"""


def test_agents_without_the_feed_do_not_load_it(tmp_path: Path) -> None:
    """A device that has a spool imports neither an MQTT library nor the feed."""
    device = Device(tmp_path / "gw")
    device.provision()
    device.ship()
    words = [sys.executable, "-c", WITHOUT, str(device.config)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, env=device.environment(), timeout=60
    )
    assert done.stdout.splitlines()[-1] == "0 []"
