"""Enrolments: a device joins under the id and the key that it signed for, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from simulators.identities import START, Identity, running
from simulators.mutations import budget, damaged, dumps, mutated

from ota.errors import NotPermitted, Refusal
from ota.fleet import enrol, rows, tables
from ota.fleet.registry import Registry, _device
from signing import enrolment, statement
from signing.enrolment import key_to_dict

DEVICE, OTHER = Identity("gw-1"), Identity("gw-2")
ENVELOPE = DEVICE.enrol({"app": running("app-1", floor=2), "mcu": running()})
BODY = json.loads(statement.peek("enrolment", ENVELOPE).payload)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One other device is registered."""
    made = Registry(f"sqlite:///{tmp_path_factory.mktemp('fleet') / 'registry.db'}")
    made.register(OTHER.enrol(), None, {}, "spool", START)
    yield made
    made.close()


def joined(registry: Registry, envelope: bytes) -> dict[str, Any] | None:
    """Register, look at the device that came of it, take it back; None when it was refused.

    What was refused has left no row anywhere.
    """
    with registry.engine.connect() as conn, conn.begin() as work:
        try:
            name, done = enrol.register(
                conn, envelope, None, labels={"site": "lyon"}, courier="", now=START
            )
        except (Refusal, NotPermitted):
            for table in (tables.devices, tables.incarnations):
                assert len(conn.execute(sa.select(table)).all()) == 1
            return None
        assert done == "registered"
        device = _device(conn, name)
        found = {
            "device": device.id,
            "key": key_to_dict(device.key),
            "components": msgspec.to_builtins(dict(device.components)),
            "labels": dict(device.labels),
        }
        work.rollback()
    return found


def honest(found: dict[str, Any] | None) -> bool:
    """Refused, or exactly what the device said."""
    return found is None or all(found[name] == BODY[name] for name in found if name != "labels")


@budget(1)
@given(damaged(ENVELOPE, others=OTHER.enrol()))
def test_damaged_bytes(registry: Registry, data: bytes) -> None:
    """Whoever carries an enrolment can not change it."""
    assert honest(joined(registry, data))


@budget(1)
@given(st.data())
def test_mutated_envelope(registry: Registry, data: st.DataObject) -> None:
    """Nor by its structure."""
    assert honest(joined(registry, dumps(data.draw(mutated(json.loads(ENVELOPE))))))


@budget(2)
@given(mutated(BODY))
def test_signed_nonsense(registry: Registry, body: Any) -> None:
    """A device that enrols with anything at all: refused, or word for word, and readable again."""
    found = joined(registry, statement.sign("enrolment", dumps(body), DEVICE.signer))
    if found is not None:
        assert found["device"] == json.loads(dumps(body))["device"]
        assert found["key"] == key_to_dict(DEVICE.signer.public_key)


@budget(1)
@given(mutated(BODY["key"], changes=2))
def test_a_key_that_is_none(registry: Registry, key: Any) -> None:
    """Keys with other fields, schemes, values or ids: refused, or the very key that signed."""
    body = BODY | {"key": key}
    found = joined(registry, statement.sign("enrolment", dumps(body), DEVICE.signer))
    assert found is None or found["key"]["keyval"] == BODY["key"]["keyval"]


def test_the_honest_one_joins(registry: Registry) -> None:
    """What the examples begin with is accepted."""
    found = joined(registry, ENVELOPE)
    assert found is not None
    assert honest(found)
    assert found["labels"] == {"site": "lyon"}
    assert rows.components_text(enrolment.verify(ENVELOPE).components)
