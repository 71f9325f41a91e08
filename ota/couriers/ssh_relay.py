"""One visit over an open link: push what is needed, run ``ota-agent relay``, read its answer.

Nothing that comes back is believed: the answer is parsed strictly and bounded, a report is taken
along only when its bytes fit its name, and whether it counts is the registry's to say.

>>> visit(link, errands, mirror, lock)
Came(told=['ota-app-2-x7k2m9-u1-w0-b0'], reports=[('0000000007-1a2b3c4d.json', b'{...}')], ...)
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from ota.couriers import ssh_push
from ota.couriers.ssh_links import Link
from ota.couriers.ssh_run import Ran
from ota.errors import Busy, Malformed, Outage, Refusal
from ota.ports import Mirror
from signing import durable, strict

ANSWER: Final = 1024 * 1024
MAX_REPORT: Final = 128 * 1024
NAME: Final = re.compile(r"[0-9]{10}-([0-9a-f]{8})\.json")
_ACKS: Final = 300
_SLICE: Final = 60.0
"""Seconds of one visit that go to a push; the next one goes on."""


class _Entry(msgspec.Struct, frozen=True):
    name: str
    data: str


class _Answer(msgspec.Struct, frozen=True):
    """Fields of other versions are passed over."""

    schema: Literal[1]
    device: str
    agent: Annotated[str, msgspec.Meta(max_length=100)] = ""
    look: str = ""
    reports: list[_Entry] = []
    more: bool = False


class _Error(msgspec.Struct, frozen=True):
    error: Annotated[str, msgspec.Meta(max_length=4000)]
    code: Annotated[str, msgspec.Meta(pattern="^[a-z-]{1,64}$")]


@dataclass(frozen=True)
class Errands:
    """What a visit is for: ``hints`` order -> rollout; ``pushed`` as :func:`visit` gave it."""

    hints: dict[str, str] = field(default_factory=dict)
    cancels: list[str] = field(default_factory=list)
    acks: tuple[str, ...] = ()
    pushed: str = ""


@dataclass
class Came:
    """What came of it. ``told``: orders handed over or withdrawn. ``pushing``: not all is there."""

    told: list[str] = field(default_factory=list)
    acked: tuple[str, ...] = ()
    reports: list[tuple[str, bytes]] = field(default_factory=list)
    more: bool = False
    pushed: str = ""
    pushing: bool = False
    agent: str = ""
    look: str = ""


def visit(link: Link, errands: Errands, mirror: Mirror | None, lock: Path) -> Came:
    """See the module. A hint is left only when the mirror holds all that it leads to.

    ``lock`` keeps two pushes to one device apart; while another one is at work this one waits
    for the next visit.
    """
    came = Came(pushed=errands.pushed)
    if link.host.mirror and mirror is not None:
        _push(link, mirror, came, lock)
    hints = [] if came.pushing else list(errands.hints.items())
    acks = errands.acks[:_ACKS]
    for order, rollout in hints or [("", "")]:
        words = [word for name in acks for word in ("--ack", name)]
        words += [word for name in errands.cancels for word in ("--cancel", name)]
        if order:
            words += ["--order", order, "--rollout", rollout]
        answer = _relay(link, words)
        came.told += [order] if order else []
        came.acked, acks = came.acked or acks, ()
        came.reports = list(_taken(answer))
        came.more, came.agent, came.look = answer.more, answer.agent, answer.look
    came.told += errands.cancels
    return came


def ask(link: Link) -> str:
    """The version of the agent over there, which says that it is this device; nothing changes."""
    return _relay(link, [], look=False).agent


def _push(link: Link, mirror: Mirror, came: Came, lock: Path) -> None:
    files = mirror.files(link.host.name)
    digest = strict.digest("\n".join(f"{f.name} {f.sha256}" for f in files).encode())
    if digest == came.pushed:
        return
    until = time.monotonic() + min(_SLICE, link.inventory.limits.total / 2)
    try:
        with durable.locked(lock):
            ssh_push.push(link, files, mirror.piece, until=until)
        came.pushed = digest
    except Busy:
        came.pushing = True
    except Outage as e:
        if e.code != "ssh-time-limit":
            raise
        came.pushing = True


def _relay(link: Link, words: list[str], *, look: bool = True) -> _Answer:
    host = link.host
    argv = [*host.command, "relay", "--device", host.name, "--max-bytes", str(ANSWER)]
    argv += ["--config", host.config] if host.config else []
    argv += ["--look"] if look and host.look else []
    ran = link.run([*argv, *words], limit=ANSWER + 1)
    if ran.status:
        raise _failed(host.name, ran)
    try:
        strict.loads(ran.out, limit=ANSWER, what="answer")
        answer = msgspec.json.decode(ran.out, type=_Answer)
    except (Malformed, msgspec.ValidationError, msgspec.DecodeError) as e:
        raise Outage(
            f"{host.name}: what it printed is no answer of ota-agent: {e!s:.200}",
            code="ssh-output",
            subject=host.name,
            remedy=f"ota ssh check --limit {host.name}",
        ) from e
    if answer.device != host.name:
        raise Refusal(
            "hint-wrong-device", f"{answer.device!r:.140} answers at {host.name}", subject=host.name
        )
    return answer


def _failed(name: str, ran: Ran) -> Outage | Refusal:
    """Its own words, where they are the agent's; else the last that it said."""
    try:
        told = msgspec.convert(json.loads(ran.out), _Error, strict=True)
    except (ValueError, RecursionError):
        why = f"exit status {ran.status}: {ran.last_words() or 'it said nothing'}"
        code = "agent-missing" if ran.status in {126, 127} else "ssh-command"
        remedy = f"is [hosts.{name}] command right, and the agent installed there?"
        return Outage(f"{name}: {why}", code=code, subject=name, remedy=remedy)
    text = "".join(c if c.isprintable() else " " for c in told.error)[:300]
    if told.code == "hint-wrong-device":
        return Refusal(told.code, f"at {name}: {text}", subject=name)
    return Outage(f"{name}: {text}", code=told.code, subject=name, remedy="ota-agent status, there")


def _taken(answer: _Answer) -> Iterator[tuple[str, bytes]]:
    """Reports whose bytes fit their names; others stay where they are."""
    for entry in answer.reports:
        match = NAME.fullmatch(entry.name)
        try:
            data = base64.b64decode(entry.data, validate=True)
        except (binascii.Error, ValueError):
            continue
        if match and len(data) <= MAX_REPORT and strict.digest(data)[:8] == match[1]:
            yield entry.name, data
