"""Both ends of every feed, for the contract suite: what a courier does, and a device's feed.

A side plays everything beyond the device: it hands over a document, takes reports in, goes down
and comes back. ``feed()`` is what starting the agent makes; feeds are closed with the side.

>>> side = MqttSide(broker, service)
>>> side.give(ORDER, document)
>>> side.feed().next(5.0)
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from simulators import jobs_https, softhsm
from simulators.broker import Broker, free_port
from simulators.jobs_model import Jobs
from simulators.jobs_service import JobsService
from simulators.pki import Authority, Issued

from ota.agent import feeds
from ota.agent.feeds import iot_jobs, iot_line
from ota.agent.feeds.iot_jobs import IotJobsFeed
from ota.agent.feeds.options import IotJobsOptions, Options, SpoolOptions
from ota.ports_device import Feed, Hint
from signing.errors import Outage
from signing.keys.hsm import HsmSource

_numbers = itertools.count(1)


class Side(ABC):
    """See the module. ``device`` is a name that no other side has."""

    options: Options

    def __init__(self) -> None:
        self.device = f"press-{os.getpid()}-{next(_numbers)}"
        self._feeds: list[Feed] = []

    def feed(self) -> Feed:
        """A freshly started feed of this device."""
        made = feeds.create(self.options, self.device)
        self._feeds.append(made)
        return made

    def close(self) -> None:
        """Close every feed."""
        for made in self._feeds:
            made.close()

    @abstractmethod
    def give(self, order: str, document: bytes) -> None:
        """Hand over a document for an order."""

    @abstractmethod
    def reports(self) -> list[bytes]:
        """What has arrived, in the order of its arrival."""

    @abstractmethod
    def down(self) -> None:
        """From now on nobody is there."""

    @abstractmethod
    def up(self) -> None:
        """And now somebody is."""


class SpoolSide(Side):
    """A folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._own = folder / "own"
        self._away = folder / "away"
        (self._own / "orders").mkdir(parents=True)
        self.options = SpoolOptions(path=str(self._own))

    def give(self, order: str, document: bytes) -> None:
        """Hand over a document for an order."""
        (self._own / "orders" / f"{order}.json").write_bytes(document)

    def reports(self) -> list[bytes]:
        """What has arrived, in the order of its arrival."""
        return [p.read_bytes() for p in sorted((self._own / "reports").glob("[0-9]*"))]

    def down(self) -> None:
        """A file stands where the folder was."""
        self._own.rename(self._away)
        self._own.touch()

    def up(self) -> None:
        """The folder is back."""
        self._own.unlink()
        self._away.rename(self._own)


class MqttSide(Side):
    """A real broker with the Jobs service on it; the thing's certificate is its own."""

    def __init__(self, broker: Broker, service: JobsService) -> None:
        super().__init__()
        self.broker = broker
        self.service = service
        self.jobs = service.jobs
        self.thing = self._issue()
        self.options: IotJobsOptions = self._options()

    def _issue(self) -> Issued:
        return self.broker.authority.issue(self.device)

    def _options(self) -> IotJobsOptions:
        return self.broker.options(self.thing)

    def give(self, order: str, document: bytes) -> None:
        """A job; its document goes into messages as it is."""
        self.jobs.create(order, document, self.device)

    def reports(self) -> list[bytes]:
        """What has arrived, in the order of its arrival."""
        return [data for name, data in self.service.reports if name == self.device]

    def down(self) -> None:
        """The broker dies."""
        self.broker.stop()

    def up(self) -> None:
        """It starts, and the service finds it again."""
        self.broker.start()
        self.service.again()


def on_token(authority: Authority, name: str) -> tuple[Issued, dict[str, str]]:
    """A certificate for a key on a new token, and the options that name it."""
    token = softhsm.new_token()
    token.make("ecdsa-p256", 1)
    source = HsmSource(f"1?label={token.label}", lambda: b"1234", token.env)
    public: Any = load_pem_public_key(source.public().keyval["public"].encode())
    thing = authority.issue(name, public=public)
    pin = thing.certificate.with_suffix(".pin")
    pin.touch(mode=0o600)
    pin.write_text("1234\n")
    uri = f"hsm:ecdsa-p256?label={token.label}&module={softhsm.module()}"
    return thing, {"key": uri, "pin": f"file:{pin}"}


class TokenSide(MqttSide):
    """The same, with the TLS key on a PKCS#11 token."""

    def _issue(self) -> Issued:
        thing, self._key = on_token(self.broker.authority, self.device)
        return thing

    def _options(self) -> IotJobsOptions:
        return self.broker.options(self.thing, **self._key)


class HttpsSide(Side):
    """Nobody speaks MQTT; the Jobs service answers over HTTPS."""

    def __init__(self, authority: Authority, stack: contextlib.ExitStack) -> None:
        super().__init__()
        self.jobs = Jobs()
        self.endpoint = stack.enter_context(jobs_https.serving(authority, self.jobs))
        self._authority = authority
        self._thing, self._key = self._issue()
        self.options: IotJobsOptions = self.broker_options()

    def _issue(self) -> tuple[Issued, dict[str, str]]:
        thing = self._authority.issue(self.device)
        return thing, {"key": str(thing.key)}

    def broker_options(self, **changes: Any) -> IotJobsOptions:
        """Its options, with changes."""
        words: dict[str, Any] = {
            "endpoint": "127.0.0.1",
            "port": free_port(),
            "https_port": self.endpoint.port,
            "fallback": ("https",),
            "certificate": str(self._thing.certificate),
            "ca": str(self._authority.ca),
            "start_jitter": 0.0,
            "timeout": 5.0,
            "poll": 0.2,
            **self._key,
        }
        return IotJobsOptions(**(words | changes))

    def give(self, order: str, document: bytes) -> None:
        """A job."""
        self.jobs.create(order, document, self.device)

    def reports(self) -> list[bytes]:
        """What has arrived, in the order of its arrival."""
        return [data for name, data in self.endpoint.reports if name == self.device]

    def down(self) -> None:
        """Whoever connects is hung up on."""
        self.endpoint.hang_up.set()

    def up(self) -> None:
        """It answers again."""
        self.endpoint.hang_up.clear()


class TokenHttpsSide(HttpsSide):
    """The same, with the TLS key on a PKCS#11 token."""

    def _issue(self) -> tuple[Issued, dict[str, str]]:
        return on_token(self._authority, self.device)


def hint(order: str) -> bytes:
    """An order's document, for all of its devices."""
    return json.dumps({"schema": 2, "order": order, "rollout": "app-1-aaaaaa"}).encode()


def heard(feed: Feed, seconds: float = 20.0) -> Hint:
    """The next hint; an offline feed is asked again."""

    def ask() -> Hint | None:
        with contextlib.suppress(Outage):
            return feed.next(1.0)
        return None

    found = until(ask, seconds)
    assert isinstance(found, Hint), "no hint comes"
    return found


def silent(feed: Feed, seconds: float = 0.1) -> bool:
    """Whether a feed that works has nothing to say; a new one has its time to connect."""
    if isinstance(feed, IotJobsFeed) and not feed._answered:
        seconds = max(seconds, 10.0)  # it ends early
    for _ in range(3):
        try:
            return feed.next(seconds) is None
        except Outage:
            continue
    return False


def hasten(patch: pytest.MonkeyPatch) -> None:
    """Let feeds ask at once where they would wait: tests of other things need not."""
    patch.setattr(iot_jobs, "_EVERY", 0.01)
    patch.setattr(iot_jobs, "_LATER", (0.3, 1.0))
    patch.setattr(iot_line, "pause", lambda failures, _share: min(0.1 * failures, 2.0))


def trouble(feed: Feed, seconds: float = 20.0) -> str:
    """The code of the next outage that ``next`` tells of."""

    def ask() -> str:
        try:
            feed.next(0.05)
        except Outage as e:
            return e.code
        return ""

    return str(until(ask, seconds))


def until(found: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What ``found`` returns as soon as it is true; the last thing it returned otherwise."""
    end = time.monotonic() + seconds
    while not (value := found()) and time.monotonic() < end:
        time.sleep(0.02)
    return value


@contextlib.contextmanager
def closing(side: Side) -> Iterator[Side]:
    """Close its feeds at the end."""
    try:
        yield side
    finally:
        side.close()
