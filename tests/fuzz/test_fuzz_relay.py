"""What comes back from a command on a device: an answer word for word, or an outage."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from simulators.mutations import budget, damaged, dumps, mutated

from ota.couriers import relay_answer
from ota.errors import Outage, Refusal
from ota.playbook import told
from signing import strict

DEVICE = "press-07"
REPORT = b'{"payload": "x"}'
BODY: dict[str, Any] = {
    "schema": 1,
    "device": DEVICE,
    "agent": "0.1.0",
    "look": "done",
    "reports": [
        {
            "name": f"0000000007-{strict.digest(REPORT)[:8]}.json",
            "data": base64.b64encode(REPORT).decode(),
        }
    ],
    "more": False,
}
ERROR = {"error": "it is locked", "code": "busy", "next": "wait"}
OTHER = Outage("nothing came back", code="ssh-output")


def answered(data: bytes) -> relay_answer.Answer | None:
    """The answer; None for an outage or for another device's."""
    try:
        found = relay_answer.read(data, DEVICE, "ssh-output", "look at it")
    except (Outage, Refusal) as error:
        assert error.code in {"ssh-output", "hint-wrong-device"}
        assert error.subject == DEVICE
        return None
    assert all(strict.digest(d)[:8] in name for name, d in found.reports)
    return found


def test_the_example_is_an_answer() -> None:
    """What the examples begin with brings its report."""
    found = answered(json.dumps(BODY).encode())
    assert found is not None
    assert [data for _, data in found.reports] == [REPORT]


@budget(1)
@given(mutated(BODY) | mutated(ERROR))
def test_mutated(body: Any) -> None:
    """Whatever a device prints, as an answer and as an error."""
    written = dumps(body)
    found = answered(written)
    assert found is None or {d for _, d in found.reports} <= {REPORT}
    error = relay_answer.failed(written, DEVICE, OTHER)
    assert str(error).isprintable()


@budget(0.7)
@given(damaged(json.dumps(BODY).encode()) | st.binary(max_size=200))
def test_damaged_bytes(data: bytes) -> None:
    """Cut off, with a banner before it, not text."""
    answered(data)
    assert relay_answer.failed(data, DEVICE, OTHER).subject in {"", DEVICE}


TOLD = (
    b"noise\nota-step write done - 0 - 0\nota-step look failed exit 9 "
    + b"a" * 64
    + b" 9\nup 3 days\nota-step last skipped unless 0 - 0\n"
)


@budget(0.7)
@given(damaged(TOLD, others=b"ota-step x done - 9999999 - 999999999\n\x1b[2J\xff") | st.binary())
def test_what_a_rendered_playbook_tells(data: bytes) -> None:
    """Steps that were told, in order, printable; never more than a playbook has."""
    found = told.read(data)
    assert len(found) <= 65
    assert all(step.name.encode() in data for step in found)
    assert all(c.isprintable() or c in "\n\t" for step in found for c in step.output)


def test_the_example_tells_three_steps() -> None:
    """What the examples begin with."""
    found = [(s.name, s.outcome, s.output) for s in told.read(TOLD)]
    assert found == [
        ("write", "done", ""),
        ("look", "failed", "up 3 days"),
        ("last", "skipped", ""),
    ]
