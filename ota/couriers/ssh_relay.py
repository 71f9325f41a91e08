"""One visit over an open link: push what is needed, run ``ota-agent relay``, read its answer.

>>> visit(link, errands, mirror, lock)
Came(told=['ota-app-2-x7k2m9-u1-w0-b0'], reports=[('0000000007-1a2b3c4d.json', b'{...}')], ...)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ota.couriers import relay_answer, ssh_push
from ota.couriers.relay_answer import Answer
from ota.couriers.ssh_links import Link
from ota.couriers.ssh_run import Ran
from ota.couriers.visiting import Came
from ota.errors import Busy, Outage, Refusal
from ota.ports import Mirror
from signing import durable, strict

_ACKS: Final = 300
_SLICE: Final = 60.0
"""Seconds of one visit that go to a push; the next one goes on."""


@dataclass(frozen=True)
class Errands:
    """What a visit is for: ``hints`` order -> rollout; ``pushed`` as :func:`visit` gave it."""

    hints: dict[str, str] = field(default_factory=dict)
    cancels: list[str] = field(default_factory=list)
    acks: tuple[str, ...] = ()
    pushed: str = ""


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
        came.reports = answer.reports
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


def _relay(link: Link, words: list[str], *, look: bool = True) -> Answer:
    host = link.host
    argv = [*host.command, "relay", "--device", host.name]
    argv += ["--max-bytes", str(relay_answer.LIMIT)]
    argv += ["--config", host.config] if host.config else []
    argv += ["--look"] if look and host.look else []
    ran = link.run([*argv, *words], limit=relay_answer.LIMIT + 1)
    if ran.status:
        raise _failed(host.name, ran)
    remedy = f"ota ssh check --limit {host.name}"
    return relay_answer.read(ran.out, host.name, "ssh-output", remedy)


def _failed(name: str, ran: Ran) -> Outage | Refusal:
    """Its own words, where they are the agent's; else the last that it said."""
    why = f"exit status {ran.status}: {ran.last_words() or 'it said nothing'}"
    code = "agent-missing" if ran.status in {126, 127} else "ssh-command"
    remedy = f"is [hosts.{name}] command right, and the agent installed there?"
    other = Outage(f"{name}: {why}", code=code, subject=name, remedy=remedy)
    return relay_answer.failed(ran.out, name, other)
