"""Use case: devices join the fleet, and each gets its director metadata.

Every registered device has director metadata, with no assignments until a rollout makes some: a
missing file is an outage, never "no assignment". So registering is two steps, the registry and
then the director, and both are repeated safely: a run that was killed is simply run again.

>>> join(registry, desk, [enrolment], allow, labels={}, courier="spool", now=now)
[Joined(device='gw-1', result='registered', error=None)]
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from ota.errors import OtaError, Refusal
from signing import enrolment

_Allow_contra = TypeVar("_Allow_contra", contravariant=True)
_Allow = TypeVar("_Allow")


class Registrar(Protocol[_Allow_contra]):
    """The part of the registry that takes enrolments."""

    def register_all(
        self,
        enrolments: Iterable[bytes],
        allow: _Allow_contra | None,
        labels: Mapping[str, str],
        courier: str,
        now: datetime,
        *,
        write: bool = True,
    ) -> Sequence[tuple[str, str] | OtaError]:
        """Each one registered, unchanged, or its named error; only said so without ``write``."""


class Openings(Protocol):
    """The part of the director's desk that opens a device's file."""

    def register(self, device: str, now: datetime) -> bool:
        """Publish empty director metadata unless there is some; idempotent."""


@dataclass(frozen=True)
class Joined:
    """What became of one enrolment; ``device`` is "" when not even that could be read."""

    device: str
    result: str
    error: OtaError | None = None


def join(
    registrar: Registrar[_Allow],
    desk: Openings,
    enrolments: Sequence[bytes],
    allow: _Allow | None,
    *,
    labels: Mapping[str, str],
    courier: str,
    now: datetime,
    roots: Mapping[str, Container[str]] | None = None,
    progress: Callable[[int], None] | None = None,
    write: bool = True,
) -> list[Joined]:
    """Register all, then give each its director metadata; answers in the enrolments' order.

    ``roots``: repository -> digests of this workspace's roots. A device that was provisioned
    with others would obey somebody else: it is refused (``workspace-mismatch``).
    Without ``write`` the answers are the same, and nothing is kept or published.
    """
    foreign = {n: e for n, data in enumerate(enrolments) if (e := _foreign(data, roots))}
    ours = [data for n, data in enumerate(enrolments) if n not in foreign]
    registered = iter(registrar.register_all(ours, allow, labels, courier, now, write=write))
    taken = [foreign[n] if n in foreign else next(registered) for n in range(len(enrolments))]
    joined = []
    for number, answer in enumerate(taken, 1):
        if isinstance(answer, OtaError):
            joined.append(Joined(answer.subject, "refused", answer))
            continue
        device, result = answer
        joined.append(_open(desk, device, result, now) if write else Joined(device, result))
        if progress:
            progress(number)
    return joined


def _foreign(data: bytes, roots: Mapping[str, Container[str]] | None) -> OtaError | None:
    """Why this device does not belong to this workspace, or None."""
    if roots is None:
        return None
    try:
        body = enrolment.verify(data)
    except Refusal:
        return None  # the registrar names it better
    for name, said in (("director", body.director_root), ("image", body.image_root)):
        if said not in roots[name]:
            return Refusal(
                "workspace-mismatch",
                f"{body.device}: provisioned with another {name} root, {said[:12]}",
                subject=body.device,
                remedy="ota repo roots, then provision the device anew with those files",
            )
    return None


def _open(desk: Openings, device: str, result: str, now: datetime) -> Joined:
    try:
        desk.register(device, now)
    except OtaError as e:
        return Joined(device, "no-director", e)
    return Joined(device, result)
