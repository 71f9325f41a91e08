"""Reports out of SQS: held until they are stored, twice or never, and garbage set aside."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from simulators.awsfake import FakeAws

from ota.couriers.aside import Aside
from ota.couriers.sqs_reports import MAX_REPORT
from ota.errors import Outage


def message(data: bytes, thing: str = "gw-1") -> str:
    return json.dumps({"report": base64.b64encode(data).decode(), "thing": thing})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeAws:
    made = FakeAws()
    made.environment(monkeypatch)
    return made


def test_reports_are_held_until_they_are_stored(fake: FakeAws, tmp_path: Path) -> None:
    """The same bytes while they are not acknowledged; afterwards nothing. Ten a call."""
    for number in range(23):
        fake.send(message(b"report %d" % number))
    courier = fake.courier(tmp_path)
    first = courier.collect(500)
    assert [d.data for d in first] == [b"report %d" % n for n in range(23)]
    assert [d.data for d in courier.collect(5)] == [d.data for d in first[:5]]
    courier.acknowledge(first)
    courier.acknowledge(first)
    assert courier.collect(500) == []
    assert fake.calls["DeleteMessageBatch"] == 6
    assert fake.calls["ReceiveMessage"] == 4


def test_killed_before_they_were_stored(fake: FakeAws, tmp_path: Path) -> None:
    """SQS offers them again, to whoever asks then."""
    fake.send(message(b"one"))
    fake.courier(tmp_path).collect(10)
    assert fake.courier(tmp_path).collect(10) == []
    fake.offer_again()
    assert [d.data for d in fake.courier(tmp_path).collect(10)] == [b"one"]


def test_delivered_twice(fake: FakeAws, tmp_path: Path) -> None:
    """Both come; the registry knows the second as a duplicate; deleting both is fine."""
    fake.send(message(b"one"))
    fake.queue.append(("m-twin", fake.queue[0][1]))
    courier = fake.courier(tmp_path)
    both = courier.collect(10)
    assert [d.data for d in both] == [b"one", b"one"]
    courier.acknowledge(both)
    fake.offer_again()
    assert courier.collect(10) == []


def test_what_can_not_be_deleted_comes_again(fake: FakeAws, tmp_path: Path) -> None:
    """An outage that loses nothing."""
    fake.send(message(b"one"))
    courier = fake.courier(tmp_path)
    deliveries = courier.collect(10)
    fake.undeletable = True
    with pytest.raises(Outage, match="1 reports were not deleted"):
        courier.acknowledge(deliveries)
    fake.undeletable = False
    fake.offer_again()
    assert [d.data for d in fake.courier(tmp_path).collect(10)] == [b"one"]


HOSTILE = {
    "text": "hello",
    "empty": "",
    "list": "[]",
    "no report": '{"thing":"gw-1"}',
    "not base64": '{"report":"***","thing":"gw-1"}',
    "number": '{"report":7,"thing":"gw-1"}',
    "twice": '{"report":"aGk=","report":"aGk="}',
    "deep": "[" * 100_000,
    "float": '{"report":"aGk=","thing":"gw-1","x":1.5}',
    "large": message(b"x" * (MAX_REPORT + 1)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_report_is_set_aside(fake: FakeAws, tmp_path: Path, name: str) -> None:
    """Kept with its reason, never offered, and the honest one behind it arrives."""
    fake.send(HOSTILE[name])
    fake.send(message(b"honest"))
    courier = fake.courier(tmp_path)
    deliveries = courier.collect(10)
    assert [d.data for d in deliveries] == [b"honest"]
    courier.acknowledge(deliveries)
    fake.offer_again()
    assert courier.collect(10) == []
    (kept,) = (tmp_path / "quarantine").glob("*.json")
    assert kept.read_text() == HOSTILE[name]
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.with_suffix(".reason").read_text().startswith("sqs:m-0-")


def test_quarantine_keeps_and_names(fake: FakeAws, tmp_path: Path) -> None:
    """With its source and reason; the same for another reason stands beside it."""
    courier = fake.courier(tmp_path)
    for reason in ("report-replayed: once\n\x1b[2J", "again"):
        fake.send(message(b"one", thing="gw-2"))
        courier.quarantine(courier.collect(1)[0], reason)
        courier.acknowledge([])
    fake.offer_again()
    assert courier.collect(10) == []
    folder = tmp_path / "quarantine"
    assert [p.read_bytes() for p in folder.glob("*.json")] == [b"one", b"one"]
    reasons = sorted(p.read_text() for p in folder.glob("*.reason"))
    assert [r.split("/")[0] for r in reasons] == ["sqs:gw-2", "sqs:gw-2"]
    assert any(r.endswith("report-replayed: once  [2J\n") for r in reasons)


def test_quarantine_is_bounded(tmp_path: Path) -> None:
    """Who can fill a disk with garbage does not stop the honest."""
    aside = Aside(tmp_path / "aside", most=2)
    for number in range(5):
        aside.keep(b"%d" % number, "garbage")
    assert len(list((tmp_path / "aside").glob("*.json"))) == 2


def test_a_quarantine_that_can_not_be_written_is_an_outage(fake: FakeAws, tmp_path: Path) -> None:
    """And the message stays in its queue."""
    (tmp_path / "quarantine").write_text("a file")
    fake.send("garbage")
    with pytest.raises(Outage) as caught:
        fake.courier(tmp_path).collect(10)
    assert caught.value.code == "quarantine"
    fake.offer_again()
    assert len(fake.queue) == 1


def test_a_second_queue_keeps_what_was_refused(fake: FakeAws, tmp_path: Path) -> None:
    """With its bytes and the reason; of a flood the beginning; nothing is written here."""
    url = "https://sqs.eu-west-1.amazonaws.com/111122223333/ota-refused"
    courier = fake.courier(tmp_path, refused=url)
    fake.send(message(b"one", thing="gw-2"))
    fake.send("x" * 200_000)
    courier.quarantine(courier.collect(10)[0], "report-replayed: again")
    fake.offer_again()
    assert courier.collect(10) == []
    garbage, refused = fake.refused
    assert (garbage["bytes"], len(base64.b64decode(garbage["data"]))) == (200_000, MAX_REPORT)
    assert base64.b64decode(refused["data"]) == b"one"
    assert refused["reason"].startswith("sqs:gw-2/")
    assert refused["reason"].endswith("report-replayed: again")
    assert list(tmp_path.iterdir()) == []
