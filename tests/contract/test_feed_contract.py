"""What every feed promises, on every feed: a folder, MQTT, MQTT with its key on a token, HTTPS."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulators import broker as brokers
from simulators import jobs_service
from simulators.broker import Broker
from simulators.feed_sides import HttpsSide, MqttSide, Side, SpoolSide, TokenSide, closing, until
from simulators.jobs_service import JobsService

from ota.agent import feeds, hints
from ota.agent.feeds import NoFeed
from ota.agent.feeds.options import NoFeedOptions
from ota.ports import Feed, Hint
from signing.errors import Outage, Refusal

ORDER = "ota-app-1-aaaaaa-u1-w1-b1"
PATIENCE = 20.0


def hint(**changes: object) -> bytes:
    body = {"schema": 1, "device": "press-07", "order": ORDER, "rollout": "app-1-aaaaaa"}
    return json.dumps(body | changes).encode()


def for_many(order: str = ORDER) -> bytes:
    return json.dumps({"schema": 2, "order": order, "rollout": "app-1-aaaaaa"}).encode()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with brokers.running(tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def service(broker: Broker) -> Iterator[JobsService]:
    with jobs_service.serving(broker) as running:
        yield running


@pytest.fixture(params=["spool", "mqtt", "token", "https"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    with contextlib.ExitStack() as stack:
        if request.param == "spool":
            made: Side = SpoolSide(tmp_path)
        else:
            broker: Broker = request.getfixturevalue("broker")
            if request.param == "https":
                made = HttpsSide(broker.authority, stack)
            else:
                kind = {"mqtt": MqttSide, "token": TokenSide}[request.param]
                made = kind(broker, request.getfixturevalue("service"))
        yield stack.enter_context(closing(made))


def heard(feed: Feed) -> Hint:
    """The next hint; an offline feed is asked again."""

    def ask() -> Hint | None:
        with contextlib.suppress(Outage):
            return feed.next(1.0)
        return None

    found = until(ask, PATIENCE)
    assert isinstance(found, Hint)
    return found


def silent(feed: Feed) -> bool:
    """Whether a feed that works has nothing to say."""
    for _ in range(3):
        try:
            return feed.next(0.1) is None
        except Outage:
            continue
    return False


def test_hint_is_offered_until_done(side: Side) -> None:
    """It comes again, to this process and to the next, until it was looked at; then no more."""
    side.give(ORDER, for_many())
    feed = side.feed()
    assert heard(feed).data == heard(feed).data
    feed.close()
    other = side.feed()
    found = heard(other)
    assert hints.read(found.data, side.device).order == ORDER
    other.done(found)
    other.done(found)
    assert silent(other)


def test_nothing_is_silence(side: Side) -> None:
    """A feed that works and has nothing says nothing, and closing it twice is fine."""
    feed = side.feed()
    assert silent(feed)
    feed.close()
    feed.close()


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
    "schema": for_many().replace(b"2", b"3"),
    "order": hint(order="../../etc"),
    "twice": b'{"schema":2,' + for_many()[1:],
    "float": for_many().replace(b"2", b"2.0"),
    "long": for_many()[:-1] + b" " * hints.LIMIT + b"}",
    "deep": b"[" * 40 + b"]" * 40,
    "foreign": hint(device="press-08"),
}


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
    side.give(ORDER, for_many())
    assert hints.read(heard(feed).data, side.device).order == ORDER


@pytest.mark.parametrize("data", [hint(device=7), hint(rollout=""), b"{}", b"\xff", b"[" * 4000])
def test_hints_are_read_strictly(data: bytes) -> None:
    """Every other form than the one is refused by name."""
    with pytest.raises(Refusal) as caught:
        hints.read(data, "press-07")
    assert caught.value.code == "hint-malformed"


def test_a_hint_for_many_devices_names_none() -> None:
    """Schema 2 is for whoever gets it: the document of a job that goes to a whole order."""
    data = for_many()
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
