"""The Protocols between use cases and what AWS IoT knows of devices.

``Things`` is identity: things and their certificates. ``Inventory`` is what is known of things.
``package_name`` is how a component is called there: what the courier makes, a role must allow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

ESCAPES: Final = {"_": "__", "+": "_p", "~": "_t", ":": "_c"}
"""What the Software Package Catalog's alphabet ``[a-zA-Z0-9-_.]`` has not, and ``_`` itself."""


def package_name(component: str) -> str:
    """A component's name in the Software Package Catalog, whose alphabet has no ``:``."""
    return "".join(ESCAPES.get(c, c) for c in component)


@dataclass(frozen=True)
class Certificate:
    """One certificate at AWS IoT. ``status`` is AWS's word: ACTIVE, INACTIVE, REVOKED ..."""

    id: str
    arn: str
    pem: str
    status: str


class Things(Protocol):
    """What the procedures need of AWS IoT (``ota/fleet/aws_identities.py``)."""

    def ensure(self, thing: str) -> None:
        """Make the thing unless it is there."""

    def mark(self, thing: str, state: str) -> None:
        """Set the thing's attribute ``ota``, for people and indexes."""

    def certify(self, pem: str) -> Certificate:
        """A new, inactive certificate for a request."""

    def made_since(self, since: datetime) -> Iterator[Certificate]:
        """Inactive certificates, newest first, made at or after ``since``."""

    def certificate(self, certificate_id: str) -> Certificate | None:
        """One of them, or None when it is gone."""

    def attached(self, thing: str) -> Sequence[str]:
        """ARNs of the thing's certificates; none when there is no such thing."""

    def attach(self, thing: str, certificate: Certificate) -> None:
        """Policies, then the thing, exclusively; idempotent."""

    def set_status(self, certificate_id: str, status: str) -> None:
        """ACTIVE, INACTIVE or REVOKED; idempotent."""

    def detach(self, thing: str, arn: str) -> None:
        """Take policies and thing from a certificate; idempotent."""


@dataclass(frozen=True)
class Thing:
    """What AWS IoT knows of one thing."""

    name: str
    type: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()


class Inventory(Protocol):
    """Where things are read from."""

    def things(self) -> Iterator[Thing]:
        """All of them, in no order; ``Outage``, ``NotPermitted``."""
