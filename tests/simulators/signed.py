"""A workspace with real repositories: shipped policies, fresh keys in memory, a directory store.

>>> place = Signed(tmp_path).created()          # both repositories published
>>> place.released("1.0.0")                     # added, signed 2 of 3, published
>>> place.desk.register("gw-1", NOW)
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from ota.ports import ArtifactStore
from ota.repositories.director import DirectorDesk
from ota.repositories.release import Build, Releases
from ota.repositories.repo import Repositories
from ota.stores.directory import DirectoryStore
from signing import durable, policy, strict
from signing.approval import Authorisation, approve
from signing.approval import authorise as check_plan
from signing.assignment import Assignment
from signing.enrolment import key_to_dict
from signing.plan import DeviceRow, Gate, Limits, Plan, Wave, sign_plan
from signing.release import Release

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
POLICIES = Path(__file__).resolve().parents[2] / "repo-metadata"
SIGNERS = ("root-1", "root-2", "targets-1", "targets-3", "director-root-2", "director-root-3")
HARDWARE = "gw-rev-b"


class Signed:
    """One workspace; ``edit`` changes the policy files (name -> text) before keys are made."""

    def __init__(
        self,
        folder: Path,
        edit: dict[str, Callable[[str], str]] | None = None,
        store: ArtifactStore | None = None,
    ) -> None:
        self.folder = folder
        metadata = folder / "repo-metadata"
        shutil.copytree(POLICIES, metadata, ignore=shutil.ignore_patterns("keyholders", "roots"))
        for name, change in (edit or {}).items():
            path = metadata / name
            text = change(path.read_text())
            assert text != path.read_text(), "the edit found nothing"
            path.write_text(text)
        self.keys: dict[str, CryptoSigner] = {}
        self.store = store or DirectoryStore(folder / "store")
        self.reload()

    def reload(self) -> None:
        """Read the policies anew, as another run of the command would."""
        metadata = self.folder / "repo-metadata"
        self.policy = policy.load(metadata)
        for name in self.policy.holders():
            if name not in self.keys:
                self.add_key(name)
        self.repos = Repositories(self.folder, self.policy, self.store, self.signer)
        self.releases = Releases(self.repos)

    def add_key(self, name: str) -> CryptoSigner:
        """A fresh key whose public half lies with the keyholders."""
        self.keys[name] = CryptoSigner.generate_ed25519()
        body = json.dumps(key_to_dict(self.keys[name].public_key)).encode()
        durable.replace(policy.key_path(self.folder / "repo-metadata", name), body)
        return self.keys[name]

    def signer(self, name: str) -> Signer:
        """The signer of a keyholder."""
        return self.keys[name]

    # -- the road ------------------------------------------------------------------------------
    def created(self, now: datetime = NOW) -> Signed:
        """Create, sign and publish both repositories."""
        self.repos.create(now)
        for name in SIGNERS:
            self.repos.sign(name, now)
        assert self.repos.publish(now) == ["image", "director-root"]
        return self

    def build(self, version: str = "1.0.0", content: bytes | None = None, **more: Any) -> Build:
        """A file and what a person says of it."""
        path = self.folder / f"app-{version}.bin"
        path.write_bytes(content if content is not None else f"app {version}\n".encode() * 20)
        return Build(path, more.pop("component", "app"), version, (HARDWARE,), **more)

    def released(self, version: str = "1.0.0", now: datetime = NOW, **more: Any) -> Release:
        """Add, sign with two of three, publish."""
        release = self.releases.add(self.build(version, **more), now)
        self.signed(now)
        assert self.releases.publish(now) == ["image"]
        return release

    def signed(self, now: datetime = NOW) -> None:
        """Sign the waiting change with two holders of targets."""
        for name in ("targets-1", "targets-3"):
            self.releases.sign(name, now)

    @property
    def desk(self) -> DirectorDesk:
        """The director's desk over this store."""
        return DirectorDesk(self.repos.director(), self.repos.publisher)

    # -- plans ---------------------------------------------------------------------------------
    def authorised(self, plan: Plan, now: datetime = NOW) -> Authorisation:
        """The plan signed by the author, approved by the approver, verified."""
        data = sign_plan(plan, self.keys["author"])
        until = strict.instant(plan.expires)
        approval = approve(data, self.repos.workspace(), until, self.keys["approver"])
        approvers = self.policy.approvers()
        return check_plan(data, [approval], approvers, self.repos.workspace(), now)

    def plan(self, image: Release, origin: Release | None, *devices: str, **more: Any) -> Plan:
        """One wave with these devices."""
        rows = tuple(DeviceRow(d, 0, 0 if origin else -1) for d in devices)
        body: dict[str, Any] = {
            "schema": 1,
            "rollout": "app-2-x7k2m9",
            "workspace": self.repos.workspace(),
            "created": strict.stamp(NOW),
            "expires": strict.stamp(NOW + timedelta(days=30)),
            "component": image.component,
            "images": (image,),
            "origins": (origin,) if origin else (),
            "couriers": ("spool",),
            "waves": (Wave(name="all", devices=rows, soak=0, deadline=3600, gate=Gate()),),
            "excluded": (),
            "limits": Limits(),
            "tail_until": strict.stamp(NOW + timedelta(days=7)),
        }
        return Plan(**(body | more))


def assignment(release: Release, **changes: Any) -> Assignment:
    """The assignment that a plan of :meth:`Signed.plan` allows."""
    kind = changes.get("kind", "update")
    body: dict[str, Any] = {
        "path": release.path,
        "length": release.length,
        "hashes": dict(release.hashes),
        "component": release.component,
        "hardware_id": HARDWARE,
        "release_counter": release.release_counter,
        "rollout": "app-2-x7k2m9",
        "wave": 0,
        "order": f"ota-app-2-x7k2m9-{'u' if kind == 'update' else 'r'}1-w0-b0",
        "kind": kind,
        "least_image_snapshot": 1,
        "not_after": strict.stamp(NOW + timedelta(days=7)),
    }
    return Assignment(**(body | changes))


# -- a stock TUF client on a store ---------------------------------------------------------------
class StoreFetcher(FetcherInterface):
    """Gives python-tuf's own client what lies in a store; 404 for what does not."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    def _fetch(self, url: str) -> Any:
        data = self._store.get(url.removeprefix("store://"), 1 << 26)
        if data is None:
            raise DownloadHTTPError("not found", 404)
        yield data


def stock_client(store: ArtifactStore, folder: Path, root: bytes) -> Updater:
    """``tuf.ngclient.Updater`` on the image repository, refreshed; it judges by the wall clock."""
    folder.mkdir(parents=True, exist_ok=True)
    updater = Updater(
        str(folder),
        "store://image/metadata/",
        str(folder),
        "store://image/targets/",
        fetcher=StoreFetcher(store),
        config=UpdaterConfig(prefix_targets_with_hash=True),
        bootstrap=root,
    )
    updater._trusted_set.reference_time = NOW
    updater.refresh()
    return updater


def replaced(pattern: str, text: str) -> Callable[[str], str]:
    """An edit of a policy file: the first match of a pattern becomes ``text``."""
    return lambda old: re.sub(pattern, text, old, count=1, flags=re.MULTILINE)
