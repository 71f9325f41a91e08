"""Enrolment and revocation of a device at AWS IoT: each step idempotent, the dangerous one last.

:meth:`Lifecycle.enrol`:

1. The device is registered by its own signed enrolment and in service: what AWS says of a
   device never makes it ours.
2. Its request is checked (``ota/identities/csr.py``). A device that has a certificate for
   another key is revoked first: nothing is replaced silently.
3. The intent is written down. The thing is made, or is there.
4. The certificate: known, or found again by its key among those made since, or made, inactive.
   It must hold the request's key and name; if not, it is revoked and never attached.
5. Policies, then the thing, exclusively.
6. The certificate is written where the device will get it from.
7. Activated, last.

:meth:`Lifecycle.revoke`, in the order that closes doors first on our side:

1. The registry: no plan takes it, its reports stop counting.
2. The director: everything assigned to it is withdrawn.
3. AWS: every certificate of the thing is revoked, then detached.

>>> lifecycle.enrol("press-07", pem, keep, now).state
'active'
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from msgspec.structs import replace

from ota.errors import NotPermitted, OtaError, Refusal
from ota.identities import csr
from ota.identities.record import Keeper, Record
from ota.ports import Device
from ota.ports_aws import Certificate, Things
from signing import strict


class Registered(Protocol):
    """What they need of the registry."""

    def device(self, device_id: str) -> Device:
        """One device, or ``NotFound``."""

    def devices(self, selector: str = "") -> Iterable[Device]:
        """All of them."""

    def retire(self, device_id: str, now: datetime) -> None:
        """Out of service."""


class Withdrawing(Protocol):
    """What they need of the director."""

    def withdraw(self, device: str, orders: Container[str], now: datetime) -> datetime | None:
        """Take back assignments; until when they can be replayed, or None."""


class _Every:
    """Contains every order."""

    def __contains__(self, _order: object) -> bool:
        return True


@dataclass(frozen=True)
class Revoked:
    """``certificates`` are ids that are revoked now; ``exposed`` as in rule 10."""

    device: str
    certificates: tuple[str, ...]
    exposed: datetime | None


@dataclass(frozen=True)
class Lifecycle:
    """See the module. ``things`` may be left unused by revocations that AWS can not answer."""

    keeper: Keeper
    registry: Registered
    director: Callable[[], Withdrawing]
    things: Callable[[], Things]

    # -- enrolment -----------------------------------------------------------------------------
    def enrol(self, device: str, pem: bytes, keep: Callable[[str], None], now: datetime) -> Record:
        """Do it, or go on with it; ``keep`` makes the certificate's PEM durable.

        Raises ``NotFound`` for an unregistered device, ``NotPermitted`` (``retired``,
        ``key-differs``, ``csr-name``, ``csr-key``), ``Malformed``, ``Refusal("certificate-key")``
        and the errors of AWS.
        """
        with self.keeper.lock(device):
            # (1)
            if self.registry.device(device).state == "retired":
                raise NotPermitted(
                    f"{device} was retired",
                    code="retired",
                    subject=device,
                    remedy="to bring it back: ota fleet replace ENROLMENT",
                )
            # (2)
            request = csr.read(pem, device)
            csr.not_for_reports(request, ((d.id, d.key) for d in self.registry.devices()))
            # (3)
            before = self.keeper.load(device)
            record = self._begun(before, device, request, now)
            things = self.things()
            things.ensure(device)
            # (4)
            certificate, record = self._certificate(things, record, request, again=before is record)
            # (5)
            things.attach(device, certificate)
            # (6)
            keep(certificate.pem)
            # (7)
            things.set_status(certificate.id, "ACTIVE")
            things.mark(device, "active")
            return self.keeper.keep(replace(record, state="active"))

    def _begun(
        self, found: Record | None, device: str, request: csr.Request, now: datetime
    ) -> Record:
        if found is not None and found.state != "revoked":
            if found.key == request.digest:
                return found
            raise NotPermitted(
                f"{device} has a certificate for another key ({found.key[:12]})",
                code="key-differs",
                subject=device,
                remedy=f"ota device revoke {device} --keep-registered, then enrol it again",
            )
        begun = Record(
            device=device,
            thing=device,
            key=request.digest,
            begun=strict.stamp(now),
            state="begun",
        )
        return self.keeper.keep(begun)

    def _certificate(
        self, things: Things, record: Record, request: csr.Request, *, again: bool
    ) -> tuple[Certificate, Record]:
        known = things.certificate(record.certificate_id) if record.certificate_id else None
        if known is None or known.status == "REVOKED":
            known = self._found_again(things, record, request) if again else None
        if known is None:
            known = things.certify(request.pem)
        try:
            csr.holds(known.pem, request)
        except Refusal:
            things.set_status(known.id, "REVOKED")
            raise
        made = replace(record, state="made", certificate_id=known.id, certificate_arn=known.arn)
        return known, self.keeper.keep(made)

    def _found_again(
        self, things: Things, record: Record, request: csr.Request
    ) -> Certificate | None:
        """A certificate that was made just before a crash, and not written down."""
        for certificate in things.made_since(strict.instant(record.begun)):
            try:
                csr.holds(certificate.pem, request)
            except Refusal:
                continue
            return certificate
        return None

    # -- revocation ----------------------------------------------------------------------------
    def revoke(self, device: str, now: datetime, *, keep_registered: bool = False) -> Revoked:
        """Do it, or go on with it; safe to repeat.

        ``keep_registered`` is for a new TLS key of a device that stays in service: only AWS
        is told. Raises ``NotFound`` for a device that neither side knows, and errors of AWS
        after what is ours was done.
        """
        with self.keeper.lock(device):
            record = self.keeper.load(device)
            exposed = None
            if not keep_registered:
                self.registry.device(device)
                # (1)
                self.registry.retire(device, now)
                # (2)
                exposed = self._withdrawn(device, now)
            # (3)
            things = self.things()
            arns = list(dict.fromkeys([*things.attached(device), *_arn(record)]))
            for arn in arns:
                things.set_status(_id(arn), "REVOKED")
                things.detach(device, arn)
            if arns:
                things.mark(device, "revoked")
            if record is not None:
                self.keeper.keep(replace(record, state="revoked"))
            return Revoked(device, tuple(map(_id, arns)), exposed)

    def _withdrawn(self, device: str, now: datetime) -> datetime | None:
        try:
            return self.director().withdraw(device, _Every(), now)
        except OtaError as e:
            if e.code == "not-found":  # it never had director metadata
                return None
            raise

    # -- looking -------------------------------------------------------------------------------
    def look(self, device: str) -> tuple[Record | None, list[Certificate]]:
        """What is written down, and what AWS says now."""
        record = self.keeper.load(device)
        things = self.things()
        arns = dict.fromkeys([*things.attached(device), *_arn(record)])
        found = (things.certificate(_id(arn)) for arn in arns)
        return record, [c for c in found if c is not None]


def _arn(record: Record | None) -> list[str]:
    return [record.certificate_arn] if record is not None and record.certificate_arn else []


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]
