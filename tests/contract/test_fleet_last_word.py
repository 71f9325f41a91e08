"""A device's last word in the registry, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from simulators.identities import START, Identity

from ota.errors import Busy, Malformed, NotPermitted
from ota.fleet import tables
from ota.fleet.registry import Registry


@pytest.fixture
def dev(registry: Registry) -> Identity:
    """A registered device."""
    identity = Identity("dev-1")
    registry.register(identity.enrol(), None, {}, "spool", START)
    return identity


def test_a_last_word_is_kept_as_it_came(registry: Registry, dev: Identity) -> None:
    """Exact bytes, verified on each reading; looked at first, it writes nothing; once only."""
    receipt = dev.receipt()
    assert registry.check_receipt("dev-1", receipt).order == "ota-end-x7k2m9-u1-w0-b0"
    assert (registry.device("dev-1").state, registry.retirements("dev-1")) == ("active", [])
    registry.retire("dev-1", START)
    registry.retire_with_receipt("dev-1", receipt, START + timedelta(days=1))
    (end,) = registry.retirements("dev-1")
    assert end.receipt is not None
    assert (end.since, end.verified) == (START, START + timedelta(days=1))
    assert end.envelope == receipt
    assert registry.with_receipt() == {"dev-1"}
    for again in (registry.check_receipt, lambda d, r: registry.retire_with_receipt(d, r, START)):
        with pytest.raises(NotPermitted) as caught:
            again("dev-1", receipt)
        assert caught.value.code == "receipt-again"
    assert registry.retirements("dev-1") == [end]


def test_two_at_once_one_last_word(registry: Registry, dev: Identity) -> None:
    """Two operators with the same receipt: one takes it in, the other is told."""
    codes: list[str] = []

    def take() -> None:
        try:
            registry.retire_with_receipt("dev-1", dev.receipt(), START)
            codes.append("")
        except (NotPermitted, Busy) as e:
            codes.append(e.code)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == ["", *["receipt-again"] * 3]
    assert len(registry.retirements("dev-1")) == 1


def test_an_edited_last_word_is_named(registry: Registry, dev: Identity) -> None:
    """Whoever edits the database can not put another word into a device's mouth."""
    registry.retire_with_receipt("dev-1", dev.receipt(), START)
    other = Identity("dev-1")
    with tables.writing(registry.engine) as conn:
        conn.execute(tables.retirements.update().values(receipt=other.receipt()))
    with pytest.raises(Malformed, match="a retirement of device 'dev-1' is damaged"):
        registry.retirements("dev-1")


def test_a_registry_of_before_takes_last_words(database_url: str, dev: Identity) -> None:
    """Tables that are missing are made when a registry is opened; what was retired stays so."""
    before = Registry(database_url)
    before.retire("dev-1", START)
    tables.retirements.drop(before.engine)
    before.close()
    registry = Registry(database_url)
    assert (registry.device("dev-1").state, registry.retirements("dev-1")) == ("retired", [])
    registry.retire_with_receipt("dev-1", dev.receipt(), START)
    assert registry.with_receipt() == {"dev-1"}
    registry.close()
