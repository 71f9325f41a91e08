"""``ota-agent relay``: one visit of a courier that can only run a command on this device.

SSH and Systems Manager can not push files or keep a stream; they run a command and read what it
prints. The relay stands between such a command and this device's own spool folder
(``feeds/spool.py``). It needs neither the agent's lock nor its key, and works while the agent
does. In this order, so that a visit that breaks off anywhere is simply made again:

1. remove reports that the courier says are durable on its side (``acks``);
2. withdraw hints (``cancels``), and leave one, unless it was relayed or withdrawn before;
3. wait for a report to appear, where asked to;
4. answer with the reports that lie there, oldest first, in one JSON object of bounded size.

A hint is relayed once for each order: ``.relayed.json`` in the spool folder remembers the last
:data:`REMEMBERED` of them, so a command that is delivered twice, or after it was withdrawn,
does nothing. The hint is written under a temporary name first, then remembered, then renamed: a
repetition after a kill finishes the rename. What a carrier put into the folder besides is left
alone: whatever is no plain file whose content fits its name is not answered with.

    {"schema": 1, "device": "press-07", "agent": "0.1.0", "hint": "new", "look": "",
     "reports": [{"name": "0000000007-1a2b3c4d.json", "data": "<base64>"}], "more": false,
     "oversize": []}

``hint`` is ``new``, ``known`` or "" (none was brought). ``more``: others wait that did not fit.
``oversize``: names of reports that can not fit alone; they need a larger ``limit``.

>>> visit(Path("/var/spool/ota/press-07"), "press-07", Visit(acks=("0000000006-00aa11bb.json",)))
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from ota.agent import hints
from signing import durable, handles, strict
from signing.errors import Malformed, Misuse

REMEMBERED: Final = 1000
"""Orders whose hints are not relayed again."""
MAX_REPORT: Final = 128 * 1024
NAME: Final = re.compile(r"[0-9]{10}-([0-9a-f]{8})\.json")
LEAST: Final = 2048
"""Smallest answer in bytes: the frame, and room to say what does not fit."""
_MEMORY: Final = ".relayed.json"
_LOCK: Final = ".relay.lock"
_PATIENCE: Final = 10.0
_TICK: Final = 0.2
_NAMED: Final = 20


@dataclass(frozen=True)
class Visit:
    """What a courier came for. ``wait`` in seconds, ``limit`` in bytes of the whole answer."""

    hint: hints.Body | None = None
    acks: tuple[str, ...] = ()
    cancels: tuple[str, ...] = ()
    wait: float = 0.0
    limit: int = 20_000

    def __post_init__(self) -> None:
        for name in self.acks:
            if not NAME.fullmatch(name):
                raise Malformed(f"--ack: {name!r:.80} is not the name of a report")
        for order in self.cancels:
            if not strict.ORDER.fullmatch(order):
                raise Malformed(f"--cancel: {order!r:.80} is not an order id")
        if self.hint is not None and self.hint.order in self.cancels:
            raise Misuse(f"{self.hint.order}: brought and withdrawn in one visit")
        if not 0 <= self.wait <= 3600:
            raise Malformed("--wait: 0 to 3600 seconds")
        if not LEAST <= self.limit <= 2**24:
            raise Malformed(f"--max-bytes: {LEAST} to {2**24}")


@dataclass
class Answer:
    """What the courier takes along; see the module for its form."""

    device: str
    agent: str = ""
    hint: Literal["new", "known", ""] = ""
    look: str = ""
    reports: list[dict[str, str]] = field(default_factory=list)
    more: bool = False
    oversize: list[str] = field(default_factory=list)

    def encoded(self) -> bytes:
        """One line of JSON."""
        return json.dumps({"schema": 1} | vars(self), separators=(",", ":")).encode() + b"\n"


def take(folder: Path, device: str, asked: Visit) -> Answer:
    """Steps 1 and 2. Raises ``Outage`` (``io``, ``no-space``) or ``Busy`` after 10 seconds."""
    answer = Answer(device)
    with durable.seam(folder), durable.locked(folder / _LOCK, wait=_PATIENCE):
        # (1)
        if asked.acks:
            with handles.opened(folder, "reports", create=True) as reports:
                for name in asked.acks:
                    handles.remove(reports, name)
        # (2)
        if asked.cancels or asked.hint:
            with handles.opened(folder, "orders", create=True) as orders:
                known = _recall(folder)
                _withdraw(folder, orders, asked.cancels, known)
                if asked.hint is not None:
                    answer.hint = _leave(folder, orders, asked.hint, known)
    return answer


def give(folder: Path, answer: Answer, asked: Visit) -> Answer:
    """Steps 3 and 4: fill ``answer`` with what lies there, after at most ``asked.wait`` seconds."""
    until = time.monotonic() + asked.wait
    with durable.seam(folder):
        # (3)
        while not (found := _reports(folder)) and time.monotonic() < until:
            time.sleep(_TICK)
        # (4)
        room = asked.limit - len(answer.encoded()) - _NAMED * 30
        least = room
        for name, data in _contents(folder, found):
            entry = {"name": name, "data": base64.b64encode(data).decode()}
            size = len(json.dumps(entry)) + 1
            if size > least:
                answer.oversize.append(name)
                answer.more = answer.more or len(answer.oversize) == _NAMED
            elif size <= room:
                answer.reports.append(entry)
                room -= size
                continue
            else:
                answer.more = True
            if answer.more:
                break
    return answer


# -- hints ---------------------------------------------------------------------------------------
def _leave(
    folder: Path, orders: int, hint: hints.Body, known: list[str]
) -> Literal["new", "known"]:
    temporary, name = f".tmp-{hint.order}", f"{hint.order}.json"
    if hint.order in known:
        handles.publish(orders, temporary, name)
        return "known"
    body: dict[str, object] = {"schema": 1, "device": hint.device}
    body |= {"order": hint.order, "rollout": hint.rollout}
    if hint.playbook:
        body |= {"playbook": hint.playbook, "parameters": hint.parameters}
    handles.write(orders, temporary, json.dumps(body).encode())
    _remember(folder, [*known, hint.order])
    handles.publish(orders, temporary, name)
    return "new"


def _withdraw(folder: Path, orders: int, cancels: tuple[str, ...], known: list[str]) -> None:
    """A hint that is on its way still finds its order remembered, and is not left either."""
    news = [order for order in cancels if order not in known]
    if news:
        known += news
        _remember(folder, known)
    for order in cancels:
        handles.remove(orders, f".tmp-{order}")
        handles.remove(orders, f"{order}.json")


def _recall(folder: Path) -> list[str]:
    """Orders relayed before, oldest first. A damaged memory is begun anew: it costs one look."""
    with handles.opened(folder) as own:
        data = handles.read(own, _MEMORY, REMEMBERED * 80)
    if isinstance(data, str):
        return []
    try:
        found = strict.loads(data, limit=REMEMBERED * 80, what="relay memory")
        return [order for order in found["orders"] if strict.ORDER.fullmatch(order)]
    except (Malformed, KeyError, TypeError):
        return []


def _remember(folder: Path, orders: list[str]) -> None:
    text = json.dumps({"schema": 1, "orders": orders[-REMEMBERED:]}, separators=(",", ":"))
    with handles.opened(folder) as own:
        handles.write(own, f"{_MEMORY}.new", text.encode())
        handles.publish(own, f"{_MEMORY}.new", _MEMORY)


# -- reports -------------------------------------------------------------------------------------
def _reports(folder: Path) -> list[str]:
    try:
        with handles.opened(folder, "reports") as reports:
            return [name for name in handles.names(reports) if NAME.fullmatch(name)]
    except FileNotFoundError:
        return []


def _contents(folder: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """Reports whose content fits their name; oldest first, which is by name."""
    if not names:
        return
    with handles.opened(folder, "reports") as reports:
        for name in names:
            data = handles.read(reports, name, MAX_REPORT)
            match = NAME.fullmatch(name)
            if isinstance(data, bytes) and match and strict.digest(data)[:8] == match[1]:
                yield name, data
