"""The operator's own roots: ``repo-metadata/roots/<repository>/N.root.json``.

What a store shows is verified from here. Every root that was verified is kept, so the folder is
also the record of all ceremonies, and enough to give a store its roots back.

>>> anchors = Anchors(Path("repo-metadata"), "image")
>>> anchors.newest()
"""

from __future__ import annotations

import re
from pathlib import Path

from ota.errors import NotPermitted
from signing import durable, rootfile
from signing.changes.ceremony import Repository

_LIMIT = 512_000
_NAME = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


class Anchors:
    """Roots of one repository in ``<policies>/roots/``."""

    def __init__(self, policies: Path, repository: Repository) -> None:
        self._folder = policies / "roots" / repository

    def all(self) -> dict[int, bytes]:
        """Version -> bytes, oldest first."""
        found = {}
        for path in self._folder.glob("*.root.json") if self._folder.is_dir() else ():
            name = _NAME.fullmatch(path.name)
            data = durable.read(path, _LIMIT, "root") if name else None
            if name and data is not None:
                found[int(name[1])] = data
        return dict(sorted(found.items()))

    def newest(self) -> bytes | None:
        """The newest one, or None before the first is published.

        ``Refusal`` names the file when it is not what its own keyholders signed.
        """
        roots = self.all()
        if not roots:
            return None
        data = roots[max(roots)]
        path = self._folder / f"{max(roots)}.root.json"
        rootfile.check(data, path, "take the file from version control, or from a colleague")
        return data

    def keep(self, version: int, data: bytes) -> None:
        """Keep a verified root; ``NotPermitted`` (``exists``) when another has its version."""
        path = self._folder / f"{version}.root.json"
        known = durable.read(path, _LIMIT, "root")
        if known is not None and known != data:
            raise NotPermitted(f"{path} is another root", code="exists", subject=str(path))
        if known is None:
            durable.replace(path, data)
