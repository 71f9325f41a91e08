"""What ``ota-agent relay`` prints, read strictly: the same for every courier that runs it.

Nothing that comes back is believed: the answer is parsed strictly and bounded, a report is taken
along only when its bytes fit its name, and whether it counts is the registry's to say.

>>> read(out, "press-07", "ssh-output").reports
[('0000000007-1a2b3c4d.json', b'{...}')]
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec

from ota.errors import Malformed, Outage, Refusal
from signing import strict

LIMIT: Final = 1024 * 1024
"""Largest answer in bytes."""
MAX_REPORT: Final = 128 * 1024
NAME: Final = re.compile(r"[0-9]{10}-([0-9a-f]{8})\.json")


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
    code: Annotated[str, msgspec.Meta(pattern=r"\A[a-z-]{1,64}\Z")]


@dataclass(frozen=True)
class Answer:
    """One visit's answer. ``reports`` are (name, bytes) whose bytes fit their names."""

    agent: str
    look: str
    reports: list[tuple[str, bytes]]
    more: bool


def read(out: bytes, device: str, code: str, remedy: str) -> Answer:
    """Read an answer of ``device``; ``Outage`` (``code``) for anything that is none.

    ``Refusal`` ``hint-wrong-device`` when another device answers.
    """
    try:
        strict.loads(out, limit=LIMIT, what="answer")
        answer = msgspec.json.decode(out, type=_Answer)
    except (Malformed, msgspec.ValidationError, msgspec.DecodeError) as e:
        raise Outage(
            f"{device}: what it printed is no answer of ota-agent: {e!s:.200}",
            code=code,
            subject=device,
            remedy=remedy,
        ) from e
    if answer.device != device:
        raise Refusal(
            "hint-wrong-device", f"{answer.device!r:.140} answers at {device}", subject=device
        )
    return Answer(answer.agent, answer.look, list(_taken(answer)), answer.more)


def failed(out: bytes, device: str, other: Outage) -> Outage | Refusal:
    """The error that the agent itself printed; ``other`` where it is none of its words."""
    try:
        told = msgspec.convert(json.loads(out), _Error, strict=True)
    except (ValueError, RecursionError):
        return other
    text = "".join(c if c.isprintable() else " " for c in told.error)[:300]
    if told.code == "hint-wrong-device":
        return Refusal(told.code, f"at {device}: {text}", subject=device)
    return Outage(
        f"{device}: {text}", code=told.code, subject=device, remedy="ota-agent status, there"
    )


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
