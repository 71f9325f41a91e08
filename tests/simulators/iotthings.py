"""Things as AWS IoT sees them: they take jobs and publish reports; no agent behind them.

>>> with Plant(aws, folder).connected("gw-1") as gw1:     # MQTT 5 over mTLS, as gw-1-ota
...     gw1.publish(report)
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import paho.mqtt.client as mqtt
import pytest
from simulators.ministack import Account, Thing

from ota.couriers.iot_documents import Options
from ota.couriers.iot_jobs import IotJobs

_T = TypeVar("_T")


class MqttThing:
    """A thing's own connection."""

    def __init__(self, thing: Thing, client: mqtt.Client) -> None:
        self._thing, self._client = thing, client

    def publish(self, report: bytes, topic: str = "") -> None:
        """What a feed does with a report: its own topic, QoS 1, until the broker has it."""
        found = self._client.publish(topic or f"ota/{self._thing.name}/report", report, qos=1)
        found.wait_for_publish(10)


class Plant:
    """One account with a report queue and things, and the couriers that look at it."""

    def __init__(self, aws: Account, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = aws
        self.folder = folder
        self.queue = aws.reports()
        self.iot = aws.client("iot")
        self._jobs = aws.client("iot-jobs-data")
        self._data = aws.client("iot-data")
        aws.use(monkeypatch)

    def courier(self, **options: Any) -> IotJobs:
        """What a new process of the operator's has."""
        return IotJobs(Options(queue=self.queue, wait=0, **options), self.folder / "quarantine")

    def things(self, *names: str) -> None:
        """Register things, without certificates."""
        for name in names:
            self.iot.create_thing(thingName=name)

    # -- a thing over HTTPS ----------------------------------------------------------------------
    def pending(self, thing: str) -> list[str]:
        """Job ids that wait for a thing, those in progress too."""
        found = self._jobs.get_pending_job_executions(thingName=thing)
        return sorted(
            job["jobId"] for kind in ("queuedJobs", "inProgressJobs") for job in found.get(kind, [])
        )

    def take(self, thing: str) -> bytes | None:
        """Start the next job: its document, as a feed gets it."""
        found = self._jobs.start_next_pending_job_execution(thingName=thing).get("execution")
        return None if not found else str(found["jobDocument"]).encode()

    def end(self, thing: str, job: str, status: str = "SUCCEEDED") -> None:
        """Say how a job ended."""
        self._jobs.update_job_execution(thingName=thing, jobId=job, status=status)

    def publish(self, thing: str, data: bytes) -> None:
        """A report by HTTPS, with the account's own rights."""
        self._data.publish(topic=f"ota/{thing}/report", qos=1, payload=data)

    # -- a thing over MQTT -----------------------------------------------------------------------
    @contextlib.contextmanager
    def connected(self, name: str) -> Iterator[MqttThing]:
        """Register a thing with a certificate, and connect as its agent does."""
        thing = self.aws.thing(name)
        client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=f"{name}-ota", protocol=mqtt.MQTTv5
        )
        client.tls_set(str(thing.ca), str(thing.certificate), str(thing.key))
        client.connect(thing.host, thing.port)
        client.loop_start()
        try:
            yield MqttThing(thing, client)
        finally:
            client.disconnect()
            client.loop_stop()

    # -- AWS's books -----------------------------------------------------------------------------
    def executions(self, job: str) -> dict[str, str]:
        """Thing -> status."""
        found = self.iot.list_job_executions_for_job(jobId=job)["executionSummaries"]
        return {e["thingArn"].rpartition("/")[2]: e["jobExecutionSummary"]["status"] for e in found}

    def jobs(self) -> list[str]:
        """Ids of all jobs."""
        return sorted(job["jobId"] for job in self.iot.list_jobs()["jobs"])

    def document(self, job: str) -> Any:
        """A job's document."""
        return json.loads(self.iot.get_job_document(jobId=job)["document"])


def eventually(look: Callable[[], _T], seconds: float = 10) -> _T:
    """What ``look`` returns once it is something."""
    until = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found
