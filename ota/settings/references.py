"""References to secrets: ``env:VARIABLE`` or ``file:PATH`` (mode 0600), never a value.

>>> References(workspace, os.environ).read("file:/run/secrets/root-1", "passphrases.root-1")
b'correct horse'
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ota.errors import NotFound, NotPermitted, Outage
from signing import durable

_LIMIT = 16 * 1024


def is_reference(text: str) -> bool:
    """Whether it names a secret rather than being one."""
    kind, mark, rest = text.partition(":")
    return kind in {"env", "file"} and bool(mark and rest)


@dataclass(frozen=True)
class References:
    """``folder``: where relative paths count from; ``env``: the variables."""

    folder: Path
    env: Mapping[str, str]

    def read(self, reference: str, where: str) -> bytes:
        """The secret, at most 16 KiB, without the line's end.

        ``where`` names it in errors: ``NotFound``, ``NotPermitted`` (readable by others).
        """
        kind, _, rest = reference.partition(":")
        data = self._variable(rest, where) if kind == "env" else self._file(rest, where)
        data = data.removesuffix(b"\n").removesuffix(b"\r")
        if not data:
            raise NotFound(f"{where}: {reference} is empty", subject=where)
        return data

    def _variable(self, name: str, where: str) -> bytes:
        if name not in self.env:
            raise NotFound(
                f"{where}: the environment has no {name}",
                subject=where,
                remedy=f"export {name}=...",
            )
        return self.env[name].encode()

    def _file(self, name: str, where: str) -> bytes:
        path = (self.folder / name).absolute()
        data = durable.read(path, _LIMIT, where)
        if data is None:
            raise NotFound(f"{where}: {path} is not there", subject=str(path))
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as e:
            raise Outage(f"{where}: {path}: {e.strerror}", subject=str(path)) from e
        if mode & 0o077:
            raise NotPermitted(
                f"{where}: {path} is readable by others (mode {mode:04o})",
                code="secret-mode",
                subject=str(path),
                remedy=f"chmod 600 {path}",
            )
        return data
