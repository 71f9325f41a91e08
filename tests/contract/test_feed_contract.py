"""What every feed promises, on every feed: a folder, MQTT and HTTPS, each with its key on a token too."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulators.broker import Broker
from simulators.feed_sides import (
    HttpsSide,
    MqttSide,
    Side,
    SpoolSide,
    TokenHttpsSide,
    TokenSide,
    closing,
    hasten,
    heard,
    silent,
    until,
)
from simulators.feed_sides import hint as for_many

from ota.agent import feeds, hints
from ota.agent.feeds import NoFeed
from ota.agent.feeds.options import NoFeedOptions
from signing.errors import Outage, Refusal

ORDER = "ota-app-1-aaaaaa-u1-w1-b1"
PATIENCE = 20.0


def hint(**changes: object) -> bytes:
    body = {"schema": 1, "device": "press-07", "order": ORDER, "rollout": "app-1-aaaaaa"}
    return json.dumps(body | changes).encode()


@pytest.fixture(params=["spool", "mqtt", "token", "https", "https-token"])
def side(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Side]:
    hasten(monkeypatch)
    with contextlib.ExitStack() as stack:
        if request.param == "spool":
            made: Side = SpoolSide(tmp_path)
        else:
            broker: Broker = request.getfixturevalue("broker")
            if "https" in request.param:
                over = HttpsSide if request.param == "https" else TokenHttpsSide
                made = over(broker.authority, stack)
            else:
                kind = {"mqtt": MqttSide, "token": TokenSide}[request.param]
                made = kind(broker, request.getfixturevalue("service"))
        yield stack.enter_context(closing(made))


def fails(work: Callable[[], object]) -> bool:
    """Whether it is an outage."""
    try:
        work()
    except Outage:
        return True
    return False


HOSTILE = {
    "list": b"[]",
    "text": b'"look now"',
    "number": b"1e400",
    "null": b"null",
    "extra": hint(url="https://evil.example"),
    "schema": for_many(ORDER).replace(b"2", b"3"),
    "order": hint(order="../../etc"),
    "twice": b'{"schema":2,' + for_many(ORDER)[1:],
    "float": for_many(ORDER).replace(b"2", b"2.0"),
    "long": for_many(ORDER)[:-1] + b" " * hints.LIMIT + b"}",
    "deep": b"[" * 40 + b"]" * 40,
    "foreign": hint(device="press-08"),
}


@pytest.mark.parametrize("side", ["spool", "mqtt", "https"], indirect=True)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_offered_to_be_refused(side: Side, name: str) -> None:
    """Whatever a courier hands over reaches the agent as a hint that it refuses, and only once."""
    side.give(ORDER, HOSTILE[name])
    feed = side.feed()
    found = heard(feed)
    with pytest.raises(Refusal) as caught:
        hints.read(found.data, side.device)
    assert caught.value.code == ("hint-wrong-device" if name == "foreign" else "hint-malformed")
    feed.done(found)
    assert silent(feed)


def test_reports_arrive_byte_for_byte(side: Side) -> None:
    """What was handed over arrived, when ``send`` returns; handing over again changes no byte."""
    feed = side.feed()
    assert silent(feed)
    feed.send(7, b'{"any":"envelope"}')
    feed.send(8, b"another")
    feed.send(8, b"another")
    assert until(lambda: len(side.reports()) >= 2)
    assert list(dict.fromkeys(side.reports())) == [b'{"any":"envelope"}', b"another"]


def test_offline_is_an_outage_and_ends(side: Side) -> None:
    """While nobody is there nothing is lost and nothing hangs; afterwards the same feed works."""
    feed = side.feed()
    assert silent(feed)
    side.down()
    assert until(lambda: fails(lambda: feed.send(1, b"lost?")))
    assert until(lambda: fails(lambda: feed.next(0.1)))
    side.up()

    assert until(lambda: not fails(lambda: feed.send(1, b"lost?")), PATIENCE)
    assert until(lambda: b"lost?" in side.reports())
    side.give(ORDER, for_many(ORDER))
    assert hints.read(heard(feed).data, side.device).order == ORDER


@pytest.mark.parametrize("data", [hint(device=7), hint(rollout=""), b"{}", b"\xff", b"[" * 4000])
def test_hints_are_read_strictly(data: bytes) -> None:
    """Every other form than the one is refused by name."""
    with pytest.raises(Refusal) as caught:
        hints.read(data, "press-07")
    assert caught.value.code == "hint-malformed"


def test_a_hint_for_many_devices_names_none() -> None:
    """Schema 2 is for whoever gets it: the document of a job that goes to a whole order."""
    data = for_many(ORDER)
    assert hints.read(data, "press-07") == hints.read(data, "press-08") == hints.parse(data)
    assert hints.read(data, "press-07").order == ORDER
    with pytest.raises(Refusal, match="device"):
        hints.read(hint(schema=2), "press-07")
    nameless = json.dumps({"schema": 1, "order": ORDER, "rollout": "app-1-aaaaaa"}).encode()
    with pytest.raises(Refusal, match="device"):
        hints.read(nameless, "press-07")


def test_no_feed_takes_nothing() -> None:
    """Without a courier there are no hints, and reports wait."""
    feed = feeds.create(NoFeedOptions(), "press-07")
    assert isinstance(feed, NoFeed)
    assert feed.next(0.0) is None
    with pytest.raises(Outage):
        feed.send(1, b"x")
    feed.close()
