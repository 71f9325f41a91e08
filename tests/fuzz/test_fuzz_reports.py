"""Signed reports: the registry counts what a device really said, or refuses it and keeps nothing.

Each example works in one transaction that is taken back, so that all of them see the same fleet.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from simulators.identities import START, Identity, running, slot, update
from simulators.mutations import budget, damaged, dumps, mutated

from ota.cli import output
from ota.errors import Refusal
from ota.fleet import exchange, recording, tables
from ota.fleet.registry import Registry, _device
from ota.ports import Received
from signing import statement
from signing.report import ComponentState, StepState, Versions, read

DEVICE, OTHER = Identity("gw-1"), Identity("gw-2")
NOW = START + timedelta(minutes=1)
STATE = ComponentState(
    hardware_id="gw-rev-b",
    floor=1,
    current=slot("app-2", "app/app-2.bin", 2),
    previous=slot("app-1", "app/app-1.bin", 1),
)
BODY = msgspec.to_builtins(
    DEVICE.body(
        2,
        event="outcome",
        update=update(),
        components={"app": STATE, "mcu": running()},
        director=Versions(root=1, timestamp=5, snapshot=5, targets=2),
        code="",
        detail="activated",
        health="healthy",
        hint="ota-app-2-x7k2m9-u1-w0-b0",
        steps=(
            StepState(name="restart", outcome="done"),
            StepState(
                name="look",
                outcome="failed",
                code="exit",
                detail="1",
                output="up 3 days\n",
                output_sha256="a" * 64,
                output_length=10,
            ),
        ),
    )
)
ENVELOPE = DEVICE.sign(BODY)
HONEST = read(statement.verify("report", ENVELOPE, [DEVICE.signer.public_key]))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Two devices; the first has said one thing."""
    made = Registry(f"sqlite:///{tmp_path_factory.mktemp('fleet') / 'registry.db'}")
    for identity in (DEVICE, OTHER):
        made.register(identity.enrol(), None, {}, "spool", START)
    made.record(DEVICE.report(1), START)
    yield made
    made.close()


def contents(conn: sa.Connection) -> dict[str, list[Any]]:
    """Every row of every table."""
    return {
        name: sorted(map(repr, conn.execute(sa.select(table)).all()))
        for name, table in tables.metadata.tables.items()
    }


def recorded(registry: Registry, envelope: bytes) -> Received | Refusal:
    """Judge one envelope, look at what it left, and take it back.

    A refusal leaves nothing but evidence of a contradiction. What was taken can be shown in every
    form, and read again from the database.
    """
    with registry.engine.connect() as conn, conn.begin() as work:
        before = contents(conn)
        found = recording.record(conn, envelope, NOW)
        after = contents(conn)
        work.rollback()
    if isinstance(found, Refusal):
        kept = {name for name in after if after[name] != before[name]}
        assert kept <= ({"evidence"} if found.code == "report-equivocation" else set())
    else:
        assert (after == before) is (found.status == "duplicate")
    return found


def shown(found: Received) -> None:
    """What a device says of itself can be printed, and can not steer a terminal."""
    body = msgspec.to_builtins(found.report)
    for form in ("table", "json", "csv"):
        text = output.details(form, body)
        assert all(c.isprintable() or c == "\n" for c in text), form
        text.encode()


@budget(1)
@given(damaged(ENVELOPE, others=OTHER.report(1)))
def test_damaged_bytes(registry: Registry, data: bytes) -> None:
    """A courier's damage changes nothing of what is counted."""
    found = recorded(registry, data)
    assert isinstance(found, Refusal) or found.report == HONEST


@budget(1.5)
@given(st.data())
def test_mutated_envelope(registry: Registry, data: st.DataObject) -> None:
    """Nor does anything that can be done to the envelope's structure."""
    found = recorded(registry, dumps(data.draw(mutated(json.loads(ENVELOPE)))))
    assert isinstance(found, Refusal) or found.report == HONEST


@budget(3)
@given(mutated(BODY))
def test_signed_nonsense(registry: Registry, body: Any) -> None:
    """A device (or the thief of its key) that signs anything: refused, or taken word for word."""
    written = dumps(body)
    found = recorded(registry, statement.sign("report", written, DEVICE.signer))
    if isinstance(found, Received):
        assert json.loads(written)["device"] == DEVICE.device
        assert found.report.counter == json.loads(written)["counter"]
        shown(found)


@budget(0.5)
@given(mutated(BODY["components"]))
def test_a_lying_fleet_can_be_exported(registry: Registry, components: Any) -> None:
    """Whatever a device claims to run, the fleet's CSV and JSON can be written and read again."""
    written = dumps(BODY | {"components": components})
    with registry.engine.connect() as conn, conn.begin() as work:
        recording.record(conn, statement.sign("report", written, DEVICE.signer), NOW)
        found = [_device(conn, name) for name in ("gw-1", "gw-2")]
        work.rollback()
    for text in (exchange.csv_text(found), exchange.json_text(found)):
        data = text.encode()
        again = exchange.read_json if text.startswith("{") else exchange.read_csv
        assert [entry.id for entry in again(data, "export")] == ["gw-1", "gw-2"]
