"""Commands on their way: what was sent to which nodes, durable before anything else is done.

One small file. A command that was sent and not written down is found again by its comment, which
is the order's id (Systems Manager takes no token); if even that fails it is sent again, and the
device's relay knows the order.

>>> book.add(Command(id="c-1", device_of={"mi-1": "press-07"}, ...))
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from ota.errors import Malformed
from signing import durable, strict

_LIMIT: Final = 16 * 1024 * 1024
_FILE: Final = ".commands.json"


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One SendCommand. ``devices`` is node -> device, ``done`` the nodes whose answer was taken."""

    id: str
    devices: dict[str, str]
    order: str = ""
    acks: tuple[str, ...] = ()
    cancels: tuple[str, ...] = ()
    sent: str
    ends: str
    done: tuple[str, ...] = ()

    def open(self) -> list[str]:
        """Nodes that are still expected to answer."""
        return [node for node in self.devices if node not in self.done]

    def finished(self, nodes: list[str]) -> Command:
        """The same, with the answers of these nodes taken."""
        return msgspec.structs.replace(self, done=tuple(dict.fromkeys((*self.done, *nodes))))

    def over(self, now: datetime) -> bool:
        """Whether Systems Manager can not deliver it any more."""
        return now >= strict.instant(self.ends)


class Book:
    """Commands in one file of a folder; a damaged one is begun anew and costs repetitions."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _FILE
        self._commands = self._load()

    def all(self) -> list[Command]:
        """In the order in which they were sent."""
        return list(self._commands.values())

    def busy(self) -> set[str]:
        """Devices that a command is on its way to."""
        return {c.devices[n] for c in self._commands.values() for n in c.open()}

    def put(self, command: Command) -> None:
        """Remember a command; one that nobody is expected to answer is forgotten."""
        if command.open():
            self._commands[command.id] = command
        else:
            self._commands.pop(command.id, None)
        self._save()

    def _load(self) -> dict[str, Command]:
        try:
            data = durable.read(self._path, _LIMIT, "commands of Systems Manager")
            found: list[Command] = msgspec.json.decode(data, type=list[Command]) if data else []
        except (msgspec.DecodeError, Malformed):
            return {}
        return {command.id: command for command in found}

    def _save(self) -> None:
        rows: list[Any] = list(self._commands.values())
        durable.replace(self._path, msgspec.json.encode(rows), mode=0o600)
