"""Devices that only sign: real keys, real enrolments, real reports, no agent behind them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner

from signing import statement, strict
from signing.enrolment import Enrolment, key_to_dict
from signing.receipt import Receipt
from signing.report import ComponentState, Report, Slot, UpdateState, Versions

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
HARDWARE = "gw-rev-b"


def slot(name: str, path: str = "", counter: int = 0) -> Slot:
    """A slot that holds the image called ``name``; its hash is the hash of that name."""
    return Slot(sha256=strict.digest(name.encode()), length=3, path=path, release_counter=counter)


def running(name: str = "", *, floor: int = 0, hardware: str = HARDWARE) -> ComponentState:
    """A component that runs the image called ``name``, or nothing."""
    return ComponentState(
        hardware_id=hardware, floor=floor, current=slot(name) if name else None, previous=None
    )


def update(rollout: str = "app-2-x7k2m9", **changes: Any) -> UpdateState:
    """A committed update, unless the changes say otherwise."""
    body = UpdateState(
        order=f"ota-{rollout}-u1-w0-b0",
        rollout=rollout,
        wave=0,
        component="app",
        kind="update",
        path="app/app-2.0.0.tar",
        sha256=strict.digest(b"app-2"),
        targets_version=2,
        phase="DONE",
        outcome="committed",
    )
    return msgspec.structs.replace(body, **changes)


class Identity:
    """One device's key and incarnation."""

    def __init__(self, device: str, state_id: str = "state-1") -> None:
        self.device = device
        self.state_id = state_id
        self.signer = CryptoSigner.generate_ecdsa()

    @property
    def keyid(self) -> str:
        return str(self.signer.public_key.keyid)

    def enrol(self, components: dict[str, ComponentState] | None = None, **changes: Any) -> bytes:
        """A self-signed enrolment."""
        body = Enrolment(
            schema=1,
            device=self.device,
            state_id=self.state_id,
            created=strict.stamp(START),
            key=key_to_dict(self.signer.public_key),
            components={"app": running("app-1")} if components is None else components,
            director_root="d" * 64,
            image_root="e" * 64,
        )
        said = msgspec.to_builtins(msgspec.structs.replace(body, **changes))
        return statement.sign("enrolment", json.dumps(said).encode(), self.signer)

    def body(self, counter: int, **changes: Any) -> Report:
        """An honest inventory report."""
        report = Report(
            schema=1,
            device=self.device,
            state_id=self.state_id,
            counter=counter,
            event="inventory",
            time=strict.stamp(START),
            components={"app": running("app-1")},
            director=Versions(),
            image=Versions(),
        )
        return msgspec.structs.replace(report, **changes)

    def report(self, counter: int, **changes: Any) -> bytes:
        """The same, signed."""
        return self.sign(msgspec.to_builtins(self.body(counter, **changes)))

    def receipt(self, **changes: Any) -> bytes:
        """A signed last word."""
        body = Receipt(
            schema=1,
            device=self.device,
            state_id=self.state_id,
            order="ota-end-x7k2m9-u1-w0-b0",
            rollout="end-x7k2m9",
            time=strict.stamp(START),
            keyid=self.keyid,
            destroyed=("identity", "state.db"),
        )
        said = msgspec.to_builtins(msgspec.structs.replace(body, **changes))
        return statement.sign("receipt", said, self.signer)

    def sign(self, body: Any) -> bytes:
        """Any body at all, signed as a report: also what an honest signer would not sign."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return statement.sign("report", data, self.signer)
