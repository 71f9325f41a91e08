"""Six attacks on a running fleet, all from outside: by editing the store or the spool.

There is no test hook in the agent. Each attack plays somebody who carries updates, or who stole
the director's online key, or who invents reports; each yields the refusal code that the victim
signed, or that the operator's side recorded. Afterwards the attacker's changes are undone, as an
operator would restore the store, and the demo updates every victim honestly.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from ota.quickstart.devices import HARDWARE, Devices, wait_for
from ota.quickstart.stage import OnStep, Stage, now
from signing import layout, statement, strict
from signing.assignment import Assignment

EXPECTED = {
    "image-bytes-changed": "image-mismatch",
    "older-metadata-replayed": "metadata-rollback",
    "order-copied-to-another-device": "hint-wrong-device",
    "another-devices-director-metadata": "director-wrong-device",
    "wrong-hardware-by-director-key-thief": "hardware-mismatch",
    "forged-report": "statement-signature",
}
TOLD = {
    "image-bytes-changed": "one byte of a release is changed in the store, and it is rolled out",
    "older-metadata-replayed": "a device is shown again what it was to run one rollout ago",
    "order-copied-to-another-device": "a courier hands one device's order to another",
    "another-devices-director-metadata": "a device is served its neighbour's orders, honestly signed",
    "wrong-hardware-by-director-key-thief": "a thief of the director's key orders a release that is "
    "for other hardware",
    "forged-report": "somebody reports for a device, with a key of their own",
}
"""What happens, for a person who follows the demo."""


@dataclass(frozen=True)
class Attack:
    """What came of one attack."""

    name: str
    victim: str
    refused: bool
    code: str


class Attacker:
    """Has the store and the spool, and for one attack the director's online key."""

    def __init__(self, stage: Stage, devices: Devices, on_step: OnStep) -> None:
        self._stage = stage
        self._devices = devices
        self._on_step = on_step
        self._store = stage.folder / "store"
        self._before = {d: self._director(d, "timestamp.json").read_bytes() for d in devices.ids}

    # -- the attacks -------------------------------------------------------------------------------
    def change_image(self, victim: str, release: str, path: str, sha256: str) -> Attack:
        """Flip one byte of an image in the store, then let an honest rollout assign it."""
        file = self._store / layout.image_target(path, sha256)
        honest = file.read_bytes()
        file.chmod(0o644)
        file.write_bytes(honest[:-9] + bytes([honest[-9] ^ 1]) + honest[-8:])
        waves = [{"name": "victim", "rest": True}]
        status = self._stage.roll_out("attacked", release, waves, self._on_step, f"id={victim}")
        file.write_bytes(honest)
        self._stage.wiring.campaign.abort(status["rollout"], now(), "leave")
        report = self._stage.wiring.registry.latest(status["rollout"])[victim]
        refused = status["state"] == "HELD" and report.event == "refusal"
        return Attack("image-bytes-changed", victim, refused, report.code)

    def replay(self, victim: str) -> Attack:
        """Put back the director metadata that the victim had one rollout ago."""

        def lie() -> None:
            self._director(victim, "timestamp.json").write_bytes(self._before[victim])

        return self._lied("older-metadata-replayed", victim, lie)

    def copy_order(self, victim: str, donor: str, release: str) -> Attack:
        """Copy the hint of a real order of ``donor`` into the victim's spool, and nothing else."""
        self._devices.freeze(donor)
        rollout = self._stage.start(
            "copied", release, [{"name": "donor", "rest": True}], f"id={donor}"
        )
        orders = self._devices.spool(donor) / "orders"
        wait_for("an order", lambda: self._stepped(rollout) and any(orders.glob("*.json")))
        source = next(orders.glob("*.json"))
        since = self._counter(victim)
        self._hint(victim, source.read_bytes(), source.name)
        code = self._refusal(victim, since, "order-copied-to-another-device")
        self._devices.thaw(donor)
        self._stage.run(rollout, self._on_step)
        return Attack("order-copied-to-another-device", victim, bool(code), code)

    def foreign_director(self, candidates: Sequence[str]) -> Attack:
        """Serve a neighbour's newer, honestly signed director metadata to the victim.

        All its versions are at least the victim's own: nothing but the name gives it away.
        """
        desk = self._stage.wiring.desk
        snapshots = {d: desk.state(d).versions.snapshot for d in candidates}
        ranked = sorted(candidates, key=lambda d: snapshots[d])
        victim, neighbour = ranked[0], ranked[-1]
        while desk.state(neighbour).versions.timestamp <= desk.state(victim).versions.timestamp:
            desk.refresh(neighbour, now())

        def lie() -> None:
            ours, theirs = self._director(victim, ""), self._director(neighbour, "")
            for file in theirs.iterdir():
                target = ours / file.name
                target.unlink(missing_ok=True)
                shutil.copyfile(file, target)

        return self._lied("another-devices-director-metadata", victim, lie)

    def wrong_hardware(self, victim: str, path: str) -> Attack:
        """With the stolen director key, assign a listed release that is for other hardware."""
        release = self._stage.wiring.catalogue.releases()[path]
        assignment = Assignment(
            path=path,
            length=release.length,
            hashes=dict(release.hashes),
            component=release.component,
            hardware_id=HARDWARE,
            release_counter=release.release_counter,
            rollout="evil-aaaaaa",
            wave=0,
            order="ota-evil-aaaaaa-u1-w0-b0",
            kind="update",
            least_image_snapshot=1,
            not_after=strict.stamp(now().replace(year=now().year + 1)),
        )
        return self._lied(
            "wrong-hardware-by-director-key-thief",
            victim,
            lambda: self._sign_as_thief(victim, assignment),
            restore=False,  # validly signed: the operator's next edit goes on above it
        )

    def forge_report(self, victim: str) -> Attack:
        """Write a report of the victim, signed with a key of the forger's own."""
        registry = self._stage.wiring.registry
        real = registry.history(victim, 1)[0]
        body = json.loads(json.dumps(statement.peek("report", real.envelope).body))
        body["counter"] += 1
        data = statement.sign("report", body, CryptoSigner.generate_ecdsa())
        name = f"{body['counter']:010d}-{strict.digest(data)[:8]}.json"
        (self._devices.spool(victim) / "reports" / name).write_bytes(data)
        reason = self._stage.folder / "spool" / ".quarantine" / victim / f"{name}.reason"

        def set_aside() -> bool:
            self._stage.wiring.campaign.observe(now())
            return reason.exists()

        wait_for("the forged report to be set aside", set_aside)
        counted = registry.device(victim).counter
        code = reason.read_text().partition(":")[0].strip()
        refused = counted == real.report.counter
        return Attack("forged-report", victim, refused, code)

    # -- means -------------------------------------------------------------------------------------
    def _lied(
        self, name: str, victim: str, lie: Callable[[], None], *, restore: bool = True
    ) -> Attack:
        """Lie in the victim's director metadata, wake it, take its answer, restore the store."""
        folder = self._director(victim, "")
        kept = folder.with_name(f"{folder.name}.kept")
        shutil.copytree(folder, kept)
        since = self._counter(victim)
        version = self._devices.installed(victim)
        lie()
        self._wake(victim)
        code = self._refusal(victim, since, name)
        if restore:
            shutil.rmtree(folder)
            kept.rename(folder)
        else:
            shutil.rmtree(kept)
        unchanged = self._devices.installed(victim) == version
        return Attack(name, victim, bool(code) and unchanged, code)

    def _director(self, device: str, file: str) -> Path:
        return self._store / layout.director_metadata(device, file)

    def _wake(self, victim: str) -> None:
        order = f"ota-wake-aaaaaa-u1-w0-b{time.monotonic_ns() % 10**9}"
        body = {"schema": 1, "device": victim, "order": order, "rollout": "wake-aaaaaa"}
        self._hint(victim, json.dumps(body).encode(), f"{order}.json")

    def _hint(self, victim: str, data: bytes, name: str) -> None:
        folder = self._devices.spool(victim) / "orders"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{name}"
        temporary.write_bytes(data)
        temporary.rename(folder / name)

    def _stepped(self, rollout: str) -> bool:
        self._stage.wiring.campaign.step(rollout, now())
        return True

    def _counter(self, victim: str) -> int:
        self._stage.wiring.campaign.observe(now())
        return self._stage.wiring.registry.device(victim).counter

    def _refusal(self, victim: str, since: int, name: str) -> str:
        """The code of the victim's first signed refusal after report number ``since``."""
        found: list[str] = []

        def look() -> bool:
            self._stage.wiring.campaign.observe(now())
            history = reversed(self._stage.wiring.registry.history(victim, 20))
            reports = (stored.report for stored in history)
            found.extend(r.code for r in reports if r.counter > since and r.event == "refusal")
            return bool(found)

        wait_for(f"{victim} to refuse ({name})", look)
        return found[0]

    def _sign_as_thief(self, victim: str, assignment: Assignment) -> None:
        signer = self._stage.wiring.keyring.signer("director-online")
        stamp = Metadata[Timestamp].from_bytes(
            self._director(victim, "timestamp.json").read_bytes()
        )
        version = stamp.signed.version + 1000
        targets = Targets(version, expires=stamp.signed.expires)
        targets.targets = {assignment.path: assignment.to_target()}
        snapshot = Snapshot(version, expires=stamp.signed.expires)
        data = self._signed(targets, victim, signer)
        self._director(victim, f"{version}.targets.json").write_bytes(data)
        snapshot.meta = {"targets.json": _meta(version, data)}
        data = self._signed(snapshot, victim, signer)
        self._director(victim, f"{version}.snapshot.json").write_bytes(data)
        stamp.signed.version = version
        stamp.signed.snapshot_meta = _meta(version, data)
        data = self._signed(stamp.signed, victim, signer)
        self._director(victim, "timestamp.json").write_bytes(data)

    def _signed(self, signed: Targets | Snapshot | Timestamp, victim: str, signer: Any) -> bytes:
        signed.unrecognized_fields["device"] = victim
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(signer)
        return metadata.to_bytes()


def _meta(version: int, data: bytes) -> MetaFile:
    return MetaFile(version, len(data), {"sha256": strict.digest(data)})
