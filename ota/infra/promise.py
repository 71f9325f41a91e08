"""The promise of least privilege as data: ``playbooks/aws/duties.toml``, read strictly.

``[[duty]]``  who must be able to do what, and who must not
``[[call]]``  what the product calls, and whose call it is: nobody else of :data:`PEOPLE` may

Two made-up things, A and B, stand for the fleet. A row with ``when = "packages"`` holds where the
values name packages; otherwise, and of a role that the values do not ask for, nobody may.

>>> promise = read(data)
>>> promise.calls[0].action, promise.calls[0].who
('s3:GetObject', ('publisher', 'rollout', 'refresh', 'enrol', 'gc'))
"""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from ota.errors import Malformed
from ota.infra.values import Values
from ota.ports_aws import package_name

FILE: Final = "duties.toml"
PEOPLE: Final = ("publisher", "rollout", "refresh", "enrol", "gc")
"""Roles that people and timers take."""


class Duty(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row as it is written: every one of ``who``, each action, each resource."""

    who: tuple[str, ...]
    may: bool
    action: tuple[str, ...]
    on: tuple[str, ...]
    why: str = ""


class Call(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One action, the roles that need it, and samples of what they need it on.

    ``through`` is empty where the product makes the call itself; else the action that makes AWS ask
    for this one too, or the command that an error advises (``aws ...``).
    """

    action: str
    who: tuple[Literal["publisher", "rollout", "refresh", "enrol", "gc"], ...]
    on: tuple[str, ...]
    through: str = ""
    when: Literal["", "packages"] = ""

    def asked(self, values: Values) -> tuple[str, ...]:
        """Whose call it is, with these values."""
        if self.when == "packages" and not values.packages:
            return ()
        return tuple(w for w in self.who if w != "gc" or values.trusted.gc is not None)


class Promise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    duty: tuple[Duty, ...]
    call: tuple[Call, ...]


@dataclass(frozen=True)
class Claim:
    """One question and its answer. ``who`` is a role, or ``device:THING`` by a way of its."""

    who: str
    action: str
    resource: str
    may: bool
    why: str = ""


def read(data: bytes) -> Promise:
    """Parse; ``Malformed`` when it can not be read."""
    try:
        return msgspec.convert(tomllib.loads(data.decode()), Promise, strict=True)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise Malformed(f"{FILE}: {e}", subject=FILE) from e


def claims(promise: Promise, values: Values) -> Iterator[Claim]:
    """Every question that the promise answers, for these values."""
    known = _known(values)
    for row in promise.duty:
        for who, action, resource in itertools.product(row.who, row.action, row.on):
            may = row.may and (who != "gc" or values.trusted.gc is not None)
            full = full_arn(values, action, resource.format(**known))
            yield Claim(who.format(**known), action, full, may, row.why)
    for call in promise.call:
        mine = call.asked(values)
        for who, resource in itertools.product(PEOPLE, call.on):
            full = full_arn(values, call.action, resource.format(**known))
            why = "" if who in mine else f"a call of {', '.join(mine) or 'nobody'}"
            yield Claim(who, call.action, full, who in mine, why)


def _known(values: Values) -> dict[str, str]:
    """What ``{a}`` and the like stand for."""
    return {
        "a": f"{values.things}A",
        "b": f"{values.things}B",
        "name": values.name,
        "package": package_name(values.packages[0] if values.packages else "app"),
        "ec2": arn(values, "ec2", "instance"),
        "aws": f"arn:{values.partition}:ssm:{values.region}:",
    }


def arn(values: Values, service: str, rest: str) -> str:
    """The ARN of something of this account and region."""
    return f"arn:{values.partition}:{service}:{values.region}:{values.account}:{rest}"


def full_arn(values: Values, action: str, resource: str) -> str:
    """An ARN as it is, or the end of one: of the action's service, of this account.

    >>> full_arn(values, "s3:GetObject", "image/metadata/timestamp.json")
    'arn:aws:s3:::example-ota-store/plant/image/metadata/timestamp.json'
    """
    if resource.startswith("arn:"):
        return resource
    if action == "s3:ListBucket":
        return f"arn:{values.partition}:s3:::{values.bucket}"
    if resource == "*":
        return resource
    service = action.partition(":")[0]
    if service == "s3":
        return f"{values.objects}{resource}"
    if service == "iam":
        return f"arn:{values.partition}:iam::{values.account}:{resource}"
    return arn(values, "iot" if service == "iotjobsdata" else service, resource)
