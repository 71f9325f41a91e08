"""A fleet that signs real reports, and strict fakes of desk, courier and catalogue around it.

The registry, the journal, plans, approvals and reports are the real ones. The desk checks every
assignment against the approved plan as the director does; the courier keeps a log of every hint;
``Fuse`` kills the engine at the Nth call of any port, before or after the effect.

>>> world = World(tmp_path, devices=6)
>>> world.start(waves=[2, 4])
>>> world.drive()                 # steps, device polls and time, until the rollout stops
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from simulators.identities import HARDWARE, START, Identity
from simulators.stopping import Killed

from ota.errors import Outage
from ota.fleet.registry import Registry
from ota.ports import Delivery, Followed, Order
from ota.rollout import lock
from ota.rollout.campaign import Campaign
from ota.rollout.engine import Engine, Step
from ota.rollout.journal import SqlJournal
from signing import authority, strict
from signing.approval import Approvers, Authorisation, approve
from signing.assignment import Assignment
from signing.enrolment import key_to_dict
from signing.plan import DeviceRow, Gate, Limits, Plan, Wave, Workspace, sign_plan
from signing.playbooks.target import PlaybookTarget
from signing.release import Release
from signing.report import ComponentState, Slot, UpdateState, Versions

WORKSPACE = Workspace(image_root="a" * 64, director_root="b" * 64)
EXPOSURE = timedelta(days=3)


@dataclass
class Fuse:
    """Dies at call number ``at`` (from 1) of any port, before or after its effect."""

    at: int = 0
    after: bool = False
    calls: int = 0

    def around(self, effect: Callable[[], Any]) -> Any:
        """Run one call of a port."""
        self.calls += 1
        mine = self.calls == self.at
        if mine and not self.after:
            raise Killed
        result = effect()
        if mine:
            raise Killed
        return result


class Fused:
    """Any adapter behind a fuse: the named methods count."""

    def __init__(self, inner: Any, fuse: Fuse, *methods: str) -> None:
        self._inner, self._fuse, self._methods = inner, fuse, methods

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in self._methods:
            return found
        return lambda *a, **k: self._fuse.around(lambda: found(*a, **k))


def release(version: str, counter: int = 0, component: str = "app") -> Release:
    """A listed release; its hash is the hash of its path."""
    path = f"{component}/{component}-{version}.bin"
    return Release(
        path=path,
        component=component,
        version=version,
        hardware_ids=(HARDWARE,),
        release_counter=counter,
        format="file",
        length=3,
        hashes={"sha256": strict.digest(path.encode())},
    )


@dataclass
class SimCatalogue:
    """What the image repository says; tests change it."""

    listed: dict[str, Release]
    who: Approvers
    version: int = 5
    fault: Exception | None = None
    plays: dict[str, PlaybookTarget] = field(default_factory=dict)

    def releases(self) -> Mapping[str, Release]:
        self._maybe()
        return dict(self.listed)

    def playbooks(self) -> Mapping[str, PlaybookTarget]:
        self._maybe()
        return dict(self.plays)

    def snapshot_version(self) -> int:
        self._maybe()
        return self.version

    def approvers(self) -> Approvers:
        self._maybe()
        return self.who

    def _maybe(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass
class StrictDesk:
    """The director's desk in memory: refuses what the approved plan does not say."""

    current: dict[str, dict[str, Assignment]] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    faults: dict[str, Exception] = field(default_factory=dict)
    version: dict[str, int] = field(default_factory=dict)

    def assign(
        self, authorisation: Authorisation, device: str, assignment: Assignment, now: datetime
    ) -> None:
        if device in self.faults:
            raise self.faults[device]
        authority.check(authorisation, device, assignment, now)
        mine = self.current.setdefault(device, {})
        if mine.get(assignment.component) == assignment:
            return
        mine[assignment.component] = assignment
        self._wrote("assign", device, assignment.order)

    def withdraw(self, device: str, orders: Container[str], now: datetime) -> datetime | None:
        if device in self.faults:
            raise self.faults[device]
        mine = self.current.get(device, {})
        gone = [c for c, a in mine.items() if a.order in orders]
        for component in gone:
            self._wrote("withdraw", device, mine.pop(component).order)
        return now + EXPOSURE if gone else None

    def assignments(self, device: str) -> Mapping[str, Assignment]:
        return dict(self.current.get(device, {}))

    def _wrote(self, verb: str, device: str, order: str) -> None:
        self.version[device] = self.version.get(device, 1) + 1
        self.log.append((verb, device, order))


@dataclass
class SimCourier:
    """A courier in memory, idempotent on the order's id; keeps everything it ever did."""

    hints: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    inbox: list[bytes] = field(default_factory=list)
    quarantined: list[tuple[bytes, str]] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    fault: Exception | None = None

    def dispatch(self, order: Order) -> Mapping[str, str]:
        if self.fault is not None:
            raise self.fault
        if order.id not in self.seen:
            self.seen.add(order.id)
            self.hints += [(order.id, d) for d in order.devices if d not in self.away]
        return {d: self.away[d] for d in order.devices if d in self.away}

    def collect(self, limit: int) -> Sequence[Delivery]:
        return [Delivery(d, "sim", d) for d in self.inbox[:limit]]

    def acknowledge(self, deliveries: Iterable[Delivery]) -> None:
        for delivery in deliveries:
            self.inbox.remove(delivery.receipt)

    def quarantine(self, delivery: Delivery, reason: str) -> None:
        self.inbox.remove(delivery.receipt)
        self.quarantined.append((delivery.data, reason))

    def cancel(self, order: Order) -> None:
        self.cancelled += [(order.id, d) for d in order.devices]


@dataclass
class BookCourier(SimCourier):
    """A courier with books of its own: ``says`` device -> what they hold, for those not heard of."""

    says: dict[str, str] = field(default_factory=dict)
    note: str = ""
    opened: set[str] = field(default_factory=set)
    asked: list[tuple[str, tuple[str, ...], bool]] = field(default_factory=list)
    tidied: list[str] = field(default_factory=list)

    def dispatch(self, order: Order) -> Mapping[str, str]:
        away = super().dispatch(order)
        self.opened.add(order.id)
        return away

    def follow(self, order: Order, waiting: Sequence[str], *, close: bool) -> Followed:
        self._maybe()
        self.asked.append((order.id, tuple(waiting), close))
        if close:
            self.opened.discard(order.id)
        found = {d: self.says[d] for d in waiting if d in self.says}
        return Followed(found, self.note, closed=order.id not in self.opened)

    def tidy(self, order: Order) -> bool:
        self._maybe()
        self.tidied.append(order.id)
        return order.id not in self.opened

    def _maybe(self) -> None:
        if self.fault is not None:
            raise self.fault


@dataclass
class SimDevice:
    """Obeys its director metadata and signs what happened.

    ``mood``: ok, sick (its health probe fails), broken (fails before touching anything), off
    (never polls), slow (stops in ``phase``), stale, refuses, stuck (NEEDS_HUMAN).
    """

    identity: Identity
    runs: Release | None
    mood: str = "ok"
    phase: str = "DOWNLOADING"
    floor: int = 0
    counter: int = 0
    done: set[str] = field(default_factory=set)
    before: Release | None = None

    @property
    def name(self) -> str:
        return self.identity.device

    def state(self) -> dict[str, ComponentState]:
        """The signed state of its component."""
        return {
            "app": ComponentState(hardware_id=HARDWARE, floor=self.floor, current=_slot(self.runs))
        }

    def send(self, **changes: Any) -> bytes:
        """The next report, signed."""
        self.counter += 1
        body = {"components": self.state(), "director": Versions(targets=2)} | changes
        return self.identity.report(self.counter, **body)

    def poll(self, wanted: Assignment | None, listed: Mapping[str, Release]) -> bytes | None:
        """One cycle: the report it sends, if any."""
        if self.mood == "off" or wanted is None:
            return None
        if self.mood in {"stale", "refuses"}:
            event = "stale" if self.mood == "stale" else "refusal"
            code = "stale" if self.mood == "stale" else "signature"
            return self.send(event=event, code=code)
        if wanted.order in self.done:
            return None
        if self.runs is not None and self.runs.sha256 == wanted.sha256:
            return self._finish(wanted, "DONE", "committed")
        return self._install(wanted, listed[wanted.path])

    def _install(self, wanted: Assignment, image: Release) -> bytes:
        bad = wanted.kind == "update"
        if self.mood == "slow" and bad:
            return self.about(wanted, self.phase, "in_progress")
        if self.mood == "broken":
            return self._finish(wanted, "FAILED", "failed", "no-space")
        if self.mood == "sick" and bad:
            return self._finish(wanted, "ROLLED_BACK", "reverted", "unhealthy")
        if self.mood == "stuck" and bad:
            return self._finish(wanted, "NEEDS_HUMAN", "failed", "needs-human")
        self.before, self.runs = self.runs, image
        return self._finish(wanted, "DONE", "committed")

    def _finish(self, wanted: Assignment, phase: str, outcome: str, code: str = "") -> bytes:
        self.done.add(wanted.order)
        return self.about(wanted, phase, outcome, code)

    def about(self, wanted: Assignment, phase: str, outcome: str, code: str = "") -> bytes:
        """A report about an assignment."""
        event = "progress" if outcome == "in_progress" else "outcome"
        return self.send(event=event, code=code, update=told(wanted, phase, outcome))


def told(wanted: Assignment, phase: str, outcome: str, **changes: Any) -> UpdateState:
    """What a report repeats of a signed order."""
    body: dict[str, Any] = {
        "order": wanted.order,
        "rollout": wanted.rollout,
        "wave": wanted.wave,
        "component": wanted.component,
        "kind": wanted.kind,
        "path": wanted.path,
        "sha256": wanted.sha256,
        "targets_version": 2,
        "phase": phase,
        "outcome": outcome,
    }
    return UpdateState(**(body | changes))


def _slot(image: Release | None) -> Slot | None:
    if image is None:
        return None
    return Slot(
        sha256=image.sha256,
        length=image.length,
        path=image.path,
        version=image.version,
        release_counter=image.release_counter,
    )


class World:
    """One workspace with registered devices that run 1.0.0."""

    def __init__(
        self,
        folder: Path,
        devices: int = 4,
        *,
        url: str = "sqlite://",
        courier: SimCourier | None = None,
    ) -> None:
        self.now = START
        self.folder = folder
        self.old, self.new = release("1.0.0"), release("2.0.0")
        self.author, self.approver = (
            CryptoSigner.generate_ed25519(),
            CryptoSigner.generate_ed25519(),
        )
        who = Approvers(
            schema=1,
            threshold=1,
            authors=(key_to_dict(self.author.public_key),),
            approvers=(key_to_dict(self.approver.public_key),),
        )
        self.catalogue = SimCatalogue({r.path: r for r in (self.old, self.new)}, who)
        self.registry = Registry(url)
        self.journal = SqlJournal(self.registry.engine)
        self.desk, self.courier = StrictDesk(), courier or SimCourier()
        self.devices: dict[str, SimDevice] = {}
        for number in range(devices):
            self.add(f"d{number:03}")
        self.fuse = Fuse()
        self.campaign = self.fresh()

    def add(self, name: str) -> SimDevice:
        """Register one more device."""
        device = SimDevice(Identity(name), self.old)
        self.registry.register(device.identity.enrol(device.state()), None, {}, "sim", self.now)
        self.devices[name] = device
        return device

    def fresh(self) -> Campaign:
        """A new engine, as after a restart; every port behind the fuse."""
        fuse = self.fuse
        engine = Engine(
            Fused(self.journal, fuse, "append", "keep", "touch"),
            Fused(self.registry, fuse, "record", "record_all"),
            self.catalogue,
            couriers={
                "sim": Fused(
                    self.courier,
                    fuse,
                    *("dispatch", "collect", "acknowledge", "quarantine", "cancel"),
                    *("follow", "tidy"),
                )
            },
            desk=Fused(self.desk, fuse, "assign", "withdraw"),
            workspace=WORKSPACE,
        )
        return Campaign(engine, self.folder / "rollout.lock")

    # -- plans -----------------------------------------------------------------------------------
    def plan(self, *sizes: int, rollout: str = "app-2-x7k2m9", **more: Any) -> Plan:
        """Waves of these sizes over the devices in order; wave settings by keyword."""
        names = iter(more.pop("names", self.devices))
        settings = {"soak": 0, "deadline": 3600, "gate": Gate()}
        settings |= {k: more.pop(k) for k in list(more) if k in settings}
        waves = tuple(
            Wave(
                name=f"wave-{index}",
                devices=tuple(DeviceRow(next(names), 0, 0) for _ in range(size)),
                **settings,
            )
            for index, size in enumerate(sizes)
        )
        body: dict[str, Any] = {
            "schema": 1,
            "rollout": rollout,
            "workspace": WORKSPACE,
            "created": strict.stamp(self.now),
            "expires": strict.stamp(self.now + timedelta(days=30)),
            "component": "app",
            "images": (self.new,),
            "origins": (self.old,),
            "couriers": ("sim",),
            "waves": waves,
            "excluded": (),
            "limits": Limits(),
            "tail_until": strict.stamp(self.now + timedelta(days=7)),
        }
        return Plan(**(body | more))

    def signed(self, plan: Plan, *, days: float = 30) -> tuple[bytes, bytes]:
        """The plan's envelope and an approval that ends in ``days``."""
        data = sign_plan(plan, self.author)
        ends = self.now + timedelta(days=days)
        return data, approve(data, WORKSPACE, ends, self.approver)

    def start(self, *sizes: int, days: float = 30, **more: Any) -> Plan:
        """Plan, sign, approve and start."""
        plan = self.plan(*sizes, **more)
        data, approval = self.signed(plan, days=days)
        self.campaign.start(data, [approval], self.now)
        return plan

    # -- time ------------------------------------------------------------------------------------
    def step(self, rollout: str = "app-2-x7k2m9") -> Step:
        """One step of the engine."""
        return self.campaign.step(rollout, self.now)

    def poll(self, *names: str) -> None:
        """These devices (or all) look at their director metadata and report."""
        for name in names or self.devices:
            device = self.devices[name]
            wanted = self.desk.assignments(name).get("app")
            report = device.poll(wanted, self.catalogue.listed)
            if report is not None:
                self.courier.inbox.append(report)

    def tick(self, seconds: float = 10) -> None:
        """Time passes."""
        self.now += timedelta(seconds=seconds)

    def drive(self, rounds: int = 40, rollout: str = "app-2-x7k2m9") -> str:
        """Steps, polls and time until nothing moves by itself; returns the state."""
        for _ in range(rounds):
            step = self.step(rollout)
            if step.state not in {"RUNNING", "ROLLING_BACK"}:
                return step.state
            self.poll()
            self.tick()
        return self.status(rollout)["state"]

    def status(self, rollout: str = "app-2-x7k2m9") -> dict[str, Any]:
        """The status that a person sees."""
        return self.campaign.status(rollout, self.now)

    def outcomes(self, rollout: str = "app-2-x7k2m9") -> dict[str, str]:
        """Device -> outcome."""
        case = self.campaign._engine.case(rollout, self.now)
        return {d: r.outcome for d, r in case.outcomes.results.items()}

    def runs(self) -> dict[str, str]:
        """Device -> version it really runs."""
        return {n: d.runs.version if d.runs else "" for n, d in self.devices.items()}

    def kinds(self, rollout: str = "app-2-x7k2m9") -> list[str]:
        """The kinds of events in the journal, in order."""
        return [e.kind for e in self.journal.load(rollout)]


def outage() -> Outage:
    """Something is unreachable for now."""
    return Outage("simulated outage")


@contextmanager
def stepping(world: World) -> Iterator[threading.Event]:
    """Another operator's engine is in the middle of a step until the event is set."""
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held(world.folder / "rollout.lock"):
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait(30)
    try:
        yield leave
    finally:
        leave.set()
        thread.join()
