"""The emulator of AWS that other tests stand on: confined, divided into accounts, enforcing policies."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any

import boto3
import paho.mqtt.client as mqtt
import psutil
import pytest
from botocore.exceptions import ClientError
from simulators.ministack import Account, Server, Thing


@contextlib.contextmanager
def connected(thing: Thing, client_id: str) -> Iterator[mqtt.Client]:
    """An MQTT 5 client with the thing's certificate."""
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, protocol=mqtt.MQTTv5
    )
    client.tls_set(str(thing.ca), str(thing.certificate), str(thing.key))
    client.connect(thing.host, thing.port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def waiting(aws: Account, queue: str) -> list[dict[str, Any]]:
    """Bodies in a queue, once there are some."""
    sqs, found, until = aws.client("sqs"), [], time.monotonic() + 10
    while not found and time.monotonic() < until:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        found = [json.loads(m["Body"]) for m in answer.get("Messages", [])]
    return found


def test_it_listens_on_the_loopback_address_only(ministack: Server) -> None:
    """Both listeners, the MQTT one that is written for all interfaces too."""
    sockets = psutil.Process(ministack.pid).net_connections()
    listening = {c.laddr for c in sockets if c.status == psutil.CONN_LISTEN}
    assert {port for _, port in listening} >= {
        int(ministack.url.rpartition(":")[2]),
        ministack.mqtt,
    }
    assert {host for host, _ in listening} == {"127.0.0.1"}


def test_accounts_see_nothing_of_each_other(ministack: Server) -> None:
    """So that tests may share one server."""
    one, other = ministack.account(), ministack.account()
    one.client("iot").create_thing(thingName="gw-1")
    one.client("sqs").create_queue(QueueName="q")
    assert other.client("iot").list_things()["things"] == []
    assert other.client("sqs").list_queues().get("QueueUrls", []) == []


def test_iam_policies_hold(aws: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user may do what its policy allows; a wrong secret is nobody."""
    aws.client("iot").create_thing(thingName="gw-1")
    arn = f"arn:aws:iot:{aws.region}:{aws.id}:thing/gw-1"
    user = aws.user({"Effect": "Allow", "Action": "iot:DescribeThing", "Resource": arn})
    aws.use(monkeypatch, user)
    iot = boto3.client("iot")
    assert iot.describe_thing(thingName="gw-1")["thingArn"] == arn
    with pytest.raises(ClientError, match="AccessDenied"):
        iot.delete_thing(thingName="gw-1")
    aws.use(monkeypatch, {**user, "AWS_SECRET_ACCESS_KEY": "another"})
    with pytest.raises(ClientError, match="Signature"):
        boto3.client("iot").describe_thing(thingName="gw-1")


def test_reports_go_from_mqtt_to_the_queue(aws: Account) -> None:
    """Over mTLS, from the device's own topic only; another device's topic is refused."""
    queue, thing = aws.reports(), aws.thing("gw-1")
    with connected(thing, "gw-1-ota") as client:
        client.publish("ota/gw-2/report", b"forged", qos=1).wait_for_publish(5)
        client.publish("ota/gw-1/report", b"own", qos=1).wait_for_publish(5)
        found = waiting(aws, queue)
    assert found == [{"report": base64.b64encode(b"own").decode(), "thing": "gw-1"}]
