"""Putting one agent together from its configuration: the only place that knows every part.

>>> with opened(config) as agent:
...     agent.cycle()
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from ota.agent import feeds, identity, parts, platforms
from ota.agent import time as trusted_time
from ota.agent.agent import Agent
from ota.agent.apply import Applier
from ota.agent.config import Config
from ota.agent.damage import damaged
from ota.agent.download import Downloader, DownloadLimits
from ota.agent.machine import ThisMachine
from ota.agent.report import Reporter
from ota.agent.runs import wiping
from ota.agent.runs.packages import Packages
from ota.agent.runs.runner import Runner
from ota.agent.runs.services import Services
from ota.agent.runs.steps import Steps
from ota.agent.runs.updating import Updating
from ota.agent.state import State
from ota.agent.transfer import Source
from ota.agent.trust import TrustRoom
from ota.agent.verdict import WantedRun
from signing import durable, layout
from signing.errors import NotFound, Outage


def wall_clock() -> datetime:
    """The wall clock, which may be wrong; see ``ota/agent/time.py``."""
    return datetime.now(UTC)


def downloader(config: Config) -> Downloader:
    """The one way to the store."""
    limits = config.download_limits()
    return Downloader(_store(config, limits), config.state / "downloads", limits)


def _store(config: Config, limits: DownloadLimits) -> str | Source:
    """The store's URL, or a source for what needs more than that."""
    if config.aws is None:
        return config.store
    from ota.agent.role_credentials import RoleCredentials  # noqa: PLC0415 - where there is a bucket
    from ota.agent.transfer_s3 import S3Source  # noqa: PLC0415 - the same

    credentials = RoleCredentials(config.aws, connect=limits.connect, read=limits.read)
    return S3Source(config.store, config.aws, credentials, connect=limits.connect, read=limits.read)


def trust_room(config: Config, source: Downloader) -> TrustRoom:
    """Both repositories of this device, read through ``source``."""

    def director(name: str, limit: int) -> bytes | None:
        return source.metadata(layout.director_metadata(config.device, name), limit)

    def image(name: str, limit: int) -> bytes | None:
        return source.metadata(layout.image_metadata(name), limit)

    hardware = {name: c.hardware_id for name, c in config.components.items()}
    return TrustRoom(config.device, hardware, config.state / "trust", director, image)


def components(config: Config) -> dict[str, parts.Component]:
    """Every configured component."""
    return {name: parts.build(name, c, config.state) for name, c in config.components.items()}


@contextlib.contextmanager
def opened(config: Config) -> Iterator[Agent]:
    """A working agent that holds the device's lock; ``Busy`` when another one does."""
    made = components(config)
    wiping.finish(config.state)
    _provisioned(config)
    with durable.locked(config.state / "lock"):
        state = _state(config)
        try:
            for name, part in made.items():
                if name not in state.floors():
                    with contextlib.suppress(Outage):  # it concerns this component alone
                        parts.adopt(name, config.components[name], part, state, wall_clock())
            agent = _agent(config, state, made)
            with contextlib.closing(agent.feed):
                yield agent
        finally:
            state.close()


def _provisioned(config: Config) -> None:
    enrolment = config.state / "identity" / "enrolment.json"
    if not enrolment.exists():
        raise NotFound(
            f"{config.device} is not provisioned",
            subject=str(config.state),
            remedy="ota-agent provision",
        )


def _state(config: Config) -> State:
    """The journal of a provisioned device; one that has gone missing is not begun anew."""
    try:
        return State.open(config.state)
    except NotFound as e:
        raise damaged(e.subject, f"{e}: it was there when this device was provisioned") from e


def _agent(config: Config, state: State, made: dict[str, parts.Component]) -> Agent:
    source = downloader(config)
    trust = trust_room(config, source)
    feed = feeds.create(config.feed, config.device)
    signer = identity.load(config.state / "identity", config.identity)
    reporter = Reporter(
        device=config.device,
        signer=signer,
        state=state,
        components=made,
        versions=trust.versions,
        now=lambda: trusted_time.used(wall_clock(), state.clock_floor),
    )
    agent: Agent
    applier = Applier(
        state=state,
        trust=trust,
        downloader=source,
        components=made,
        reporter=reporter,
        machine=ThisMachine(config),
        known=lambda: agent.known(),  # noqa: PLW0108 - agent is bound below
        clock=wall_clock,
        flush=lambda: agent.flush(),  # noqa: PLW0108 - the same
    )
    ending = wiping.Wiping(
        folder=config.state,
        device=config.device,
        signer=signer,
        state=state,
        now=reporter.now,
        courier=config.feed.kind != "none",
    )
    runner = Runner(
        state=state,
        trust=trust,
        reporter=reporter,
        machine=applier.machine,
        steps=Steps(
            Services.here(config.service_manager),
            Packages.here(config.package_manager),
            platforms.words(),
        ),
        updating=Updating(made, state, lambda component: agent.one_cycle(component)),  # noqa: PLW0108 - agent is bound below
        wiping=ending,
        fetch=lambda wanted: text_of(source, wanted),
        known=applier.known,
        clock=wall_clock,
        flush=applier.flush,
        allowed=config.playbooks,
    )
    soak = timedelta(seconds=config.security_soak)
    agent = Agent(config.device, applier, trust, feed, wall_clock, soak, runner)
    return agent


def text_of(source: Downloader, wanted: WantedRun) -> bytes:
    """A playbook's text from the store, not yet verified; ``Outage`` when it is not there."""
    name = layout.image_target(wanted.target.path, wanted.target.sha256)
    data = source.metadata(name, wanted.target.length)
    if data is None:
        raise Outage(f"{wanted.target.path} is not in the store", code="missing", subject=name)
    return data
