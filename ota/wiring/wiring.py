"""Settings -> adapters -> use cases: with its parts beside it, the only place that knows both sides.

Everything is made when it is first asked for, with plain constructor arguments, so that a
command pays for what it uses only, and a test can build the same parts by hand.

>>> Wiring(settings.load(Path("plant"), os.environ), ask, clock).releases.listing(now)
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import string
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ota.errors import Busy, Malformed, NotFound, NotPermitted
from ota.ports import Courier
from ota.repositories import joining, looking, repostatus
from ota.repositories.joining import Joined
from ota.repositories.opened import REPOSITORIES
from ota.repositories.release import Releases
from ota.wiring import store as wiring_store
from ota.wiring.upkeep import Upkeep
from signing import plan as plans
from signing import statement, strict
from signing.approval import approve
from signing.plan import Plan, PlannedPlaybook
from signing.playbooks.run import Assigned

if TYPE_CHECKING:
    from ota.fleet.allow import AllowList
    from ota.identities.lifecycle import Lifecycle
    from ota.playbook.library import Library
    from ota.playbook.running import NativeRuns
    from ota.repositories.gc import Survey
    from ota.repositories.leaving import Leaving
    from ota.rollout.campaign import Campaign
    from ota.rollout.drive import Progress, Until
    from ota.syncing import Synced
    from ota.wiring.ssh import SshParts
    from ota.wiring.ssm import SsmParts

_TOKEN = string.ascii_lowercase + string.digits


class Wiring(Upkeep):
    """What a workspace can do: the use cases over its parts."""

    @cached_property
    def releases(self) -> Releases:
        """Releases; a release in use can not be taken off."""
        return Releases(self.repositories, self._in_use)

    @cached_property
    def library(self) -> Library:
        """Playbooks; one in use can not be taken off."""
        from ota.playbook.library import Library  # noqa: PLC0415 - only where playbooks are

        return Library(self.repositories, self.store, self._in_use)

    # -- the fleet -------------------------------------------------------------------------------
    def join(
        self,
        enrolments: Sequence[bytes],
        allow: Path | None,
        labels: Mapping[str, str],
        courier: str,
        *,
        write: bool = True,
    ) -> list[Joined]:
        """Register devices and publish their first director metadata; or only try all of it."""
        chosen = courier or self._only_courier()
        listed = self._allow_list(allow, chosen) if allow else None
        desk = self.desk
        if write:
            self.unlock_director()
        return joining.join(
            self.begin_registry(),
            desk,
            enrolments,
            listed,
            labels=labels,
            courier=courier if listed else chosen,
            now=self._clock(),
            roots=self._root_digests(),
            write=write,
        )

    @cached_property
    def leaving(self) -> Leaving:
        """Devices that leave the fleet."""
        from ota.repositories.leaving import Leaving  # noqa: PLC0415 - for one command

        return Leaving(
            self.registry, lambda: self.campaign, self.desk, self.assignments, self.unlock_director
        )

    @cached_property
    def lifecycle(self) -> Lifecycle:
        """Identities of devices at AWS IoT."""
        from ota.wiring import aws as wiring_aws  # noqa: PLC0415 - boto3 is slow to import

        return wiring_aws.lifecycle(self.settings, self.registry, lambda: self.desk)

    def sync_aws(self, query: str, *, listed: bool, write: bool) -> Synced:
        """What AWS IoT knows of the fleet, as labels; both sides compared."""
        from ota import syncing  # noqa: PLC0415 - boto3 is slow to import
        from ota.wiring import aws as wiring_aws  # noqa: PLC0415 - boto3 is slow to import

        inventory = wiring_aws.inventory(self.settings, query, listed=listed)
        return syncing.sync(inventory, self.registry, write=write)

    def _root_digests(self) -> dict[str, frozenset[str]]:
        """Digests of every root of both repositories; a device may start at any of them."""
        return {
            name: frozenset(strict.digest(d) for d in self.repositories.anchors(name).values())
            for name in REPOSITORIES
        }

    def _only_courier(self) -> str:
        """The courier of devices for which none is named, where there is no choice."""
        return next(iter(self.couriers)) if len(self.couriers) == 1 else ""

    def _allow_list(self, path: Path, courier: str) -> AllowList:
        from ota.fleet import exchange  # noqa: PLC0415 - SQLAlchemy is slow to import
        from ota.fleet.allow import AllowList  # noqa: PLC0415 - the same

        AllowList.load(path)
        entries = exchange.read(path)
        filled = (dataclasses.replace(e, courier=e.courier or courier) for e in entries)
        return AllowList(filled, str(path))

    def assignments(self, device: str) -> Mapping[str, Assigned]:
        """What a device is to run; nothing before the director exists. Needs no passphrase."""
        if self.repositories.anchor("director") is None:
            return {}
        try:
            return self.desk.assignments(device)
        except NotFound:
            return {}

    def store_application(self) -> Any:
        """An ASGI application that serves the store's folder."""
        from ota.stores.serving import application  # noqa: PLC0415 - a web server, for one command

        return application(wiring_store.folder(self.settings))

    # -- rollouts ----------------------------------------------------------------------------------
    @cached_property
    def couriers(self) -> dict[str, Courier]:
        """The couriers that this workspace uses, by name."""
        from ota.wiring import couriers as wiring_couriers  # noqa: PLC0415 - only where rollouts are moved

        found = wiring_couriers.couriers(self.settings, lambda: self.registry, self._clock)
        if self.settings.ssh_inventory:
            found["ssh"] = self.ssh.courier
        return found

    @cached_property
    def ssh(self) -> SshParts:
        """What reaches devices by SSH; paramiko is imported here and not before."""
        from ota.wiring.ssh import SshParts  # noqa: PLC0415 - paramiko is slow to import

        return SshParts(self.settings, self._clock, self.mirror)

    @cached_property
    def ssm(self) -> SsmParts:
        """What people do with Systems Manager."""
        from ota.wiring.ssm import SsmParts  # noqa: PLC0415 - boto3 is slow to import

        return SsmParts(self.settings, self.registry, self._clock, self.assignments)

    @cached_property
    def campaign(self) -> Campaign:
        """The use cases of rollouts; ``NotFound`` before the repositories are published."""
        from ota.rollout.campaign import Campaign  # noqa: PLC0415 - SQLAlchemy is slow to import
        from ota.rollout.engine import Engine  # noqa: PLC0415 - the same
        from ota.rollout.journal import SqlJournal  # noqa: PLC0415 - the same

        workspace = self.repositories.workspace()
        engine = Engine(
            SqlJournal(self.registry.engine),
            self.registry,
            self.catalogue,
            couriers=self.couriers,
            desk=self.desk,
            workspace=workspace,
        )
        return Campaign(engine, self.settings.state / ".engine.lock")

    def open_rollouts(self) -> list[str]:
        """Ids of the rollouts that are not closed, oldest first."""
        return self.campaign.open()

    def plan(self, spec: bytes, source: str) -> Plan:
        """Freeze a spec for the fleet as it is now; unsigned.

        Reports that wait are taken in first, unless an engine is at work and does that itself.
        """
        from ota.rollout import planning  # noqa: PLC0415 - YAML is slow to import
        from ota.rollout import spec as specs  # noqa: PLC0415 - the same

        read = specs.read(spec, source)
        releases = self.catalogue.releases()
        component = planning.component_of(read, releases)
        playbook = self._planned_playbook(read.playbook, read.parameters) if read.playbook else None
        with contextlib.suppress(Busy):
            self.campaign.observe(self._clock())
        return planning.make(
            read,
            self.registry.devices(),
            releases,
            self.repositories.workspace(),
            self._clock(),
            self.campaign.open_devices(component),
            token="".join(secrets.choice(_TOKEN) for _ in range(6)),
            playbook=playbook,
        )

    def _planned_playbook(self, name: str, given: Mapping[str, str]) -> PlannedPlaybook:
        """A published playbook, its text verified, with one value for each parameter."""
        from ota.playbook import compute  # noqa: PLC0415 - jinja2 is slow to import

        found = self.library.read(name, self._clock())
        if "agent" not in found.target.roads:
            raise Malformed(
                f"{name} is for machines without an agent only",
                subject=name,
                remedy=f"ota playbook render {name} --native ssh",
            )
        return PlannedPlaybook(target=found.target, parameters=compute.bind(found.playbook, given))

    def native_runs(self, road: str = "") -> NativeRuns:
        """Playbooks on machines without an agent; ``road``: ``ssh``, or "" only to look."""
        from ota.playbook.running import NativeRuns  # noqa: PLC0415 - only where playbooks are

        folder = self.settings.state / "native"
        return NativeRuns(folder, self.ssh.shells if road == "ssh" else None)

    def sign_plan(self, plan: Plan, key: str) -> bytes:
        """The plan's bytes for ever, signed by its author; ``NotPermitted`` for anybody else."""
        self._listed(key, "author", self.policy.rollout.authors)
        return plans.sign_plan(plan, self.keyring.signer(key))

    def sign_approval(self, plan: bytes, key: str, expires: datetime) -> bytes:
        """An approval of exactly these bytes, for this workspace; by an approver only."""
        self._listed(key, "approver", self.policy.rollout.approvers)
        workspace = self.repositories.workspace()
        return approve(plan, workspace, expires, self.keyring.signer(key))

    def _listed(self, key: str, what: str, listed: tuple[str, ...]) -> None:
        """Say at once that a signature would count for nothing; what counts is signed elsewhere."""
        if key not in listed:
            raise NotPermitted(
                f"{key} is no {what}: rollout.toml names {', '.join(listed)}",
                code=f"{what}-unlisted",
                subject=key,
                remedy=f"ota rollout {'approve PLAN' if what == 'approver' else 'plan SPEC'} --key {listed[0]}",
            )

    def describe(self, plan: Plan) -> dict[str, Any]:
        """A plan in plain data."""
        from ota.rollout import plan_view  # noqa: PLC0415 - only where plans are shown

        return plan_view.describe(plan)

    def describe_file(self, plan: bytes) -> dict[str, Any]:
        """What a plan's bytes say; nobody's signature is checked here."""
        return self.describe(plans.read_plan(statement.peek("plan", plan)))

    def run(
        self,
        rollout: str,
        until: Until,
        time_limit: float | None,
        interval: float,
        progress: Progress,
    ) -> dict[str, Any]:
        """Step until it is done; see ``ota/rollout/drive.py`` for how it ends."""
        from ota.rollout import drive  # noqa: PLC0415 - only where rollouts are moved

        return drive.run(
            self.campaign,
            rollout,
            self._clock,
            until=until,
            time_limit=time_limit,
            interval=interval,
            progress=progress,
        )

    def _in_use(self, paths: Collection[str]) -> dict[str, list[str]]:
        """Why releases can not be taken off (rule 9): open rollouts, and every director."""
        devices = repostatus.devices(self.repositories)
        named, assigned = self.campaign.named(), looking.uses(self.desk, paths, devices)
        return {path: [*named.get(path, []), *assigned[path]] for path in paths}

    def collect(self, grace: timedelta, *, dry_run: bool) -> Survey:
        """Remove from the store what nobody is led to any more; ``dry_run`` only says what."""
        from ota.repositories import gc  # noqa: PLC0415 - for one command

        work = gc.survey if dry_run else gc.collect
        return work(self.repositories, self.campaign.named, self._clock(), grace)

    def first_roots(self) -> list[dict[str, str]]:
        """File and fingerprint of both first roots, as devices are provisioned with them."""
        both = self.repositories.workspace()
        folder = self.settings.policies / "roots"
        return [
            {"repository": name, "sha256": digest, "file": str(folder / name / "1.root.json")}
            for name, digest in (("director", both.director_root), ("image", both.image_root))
        ]
