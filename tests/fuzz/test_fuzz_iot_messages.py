"""Messages of the IoT Jobs service: read with limits, or ``Malformed``; a document is only bytes."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, dumps, mutated

from ota.agent import hints
from ota.agent.feeds import iot_messages
from ota.errors import Malformed, Refusal

HINT = {
    "schema": 1,
    "device": "press-07",
    "order": "ota-app-2-x7k2m9-u1-w0-b0",
    "rollout": "app-2-x7k2m9",
}
BODY: dict[str, Any] = {
    "clientToken": "t-1",
    "timestamp": 1,
    "execution": {
        "jobId": "ota-app-2-x7k2m9-u1-w0-b0",
        "thingName": "press-07",
        "status": "QUEUED",
        "versionNumber": 1,
        "executionNumber": 1,
        "jobDocument": HINT,
    },
    "executionState": {"status": "QUEUED", "versionNumber": 1},
    "code": "VersionMismatch",
    "message": "no\n",
}


def told(data: bytes) -> iot_messages.Answer | None:
    """The answer, and what becomes of the document in it; None when it was no message."""
    try:
        found = iot_messages.read(data)
    except Malformed:
        return None
    if found.execution is not None:
        assert iot_messages.JOB.fullmatch(found.execution.job)
        document = iot_messages.document(found.execution)
        try:
            hints.read(document, "press-07")
        except Refusal as refusal:
            assert refusal.code in {"hint-malformed", "hint-wrong-device"}
    rejected = iot_messages.Rejected("update", found)
    assert str(rejected).isprintable()
    return found


def test_the_example_is_read() -> None:
    """What the examples begin with is a whole message, over MQTT and over HTTPS."""
    for document in (HINT, json.dumps(HINT)):
        body = BODY | {"execution": BODY["execution"] | {"jobDocument": document}}
        found = told(json.dumps(body).encode())
        assert found is not None
        assert found.execution is not None
        assert json.loads(iot_messages.document(found.execution)) == HINT


@budget(1.2)
@given(mutated(BODY))
def test_mutated(body: Any) -> None:
    """Fields missing, of other types, with other words."""
    told(dumps(body))


@budget(0.7)
@given(damaged(json.dumps(BODY).encode()) | st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """Cut off, not JSON, not text."""
    told(data)
