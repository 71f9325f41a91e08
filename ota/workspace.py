"""Use case: make a workspace, the operator's folder.

``ota.toml``, the role policies as shipped, and a ``.gitignore`` that keeps private keys and
state out of version control. ``ota.toml`` is written last: a making that was killed is repeated,
and what is there is never overwritten.

>>> create(Path("plant"))
[PosixPath('plant/.gitignore'), ...]
"""

from __future__ import annotations

from pathlib import Path

from ota import shipped
from ota.errors import NotPermitted
from ota.settings import settings
from signing import durable

IGNORE = """\
# Private keys never enter version control; state, store and spool are made by the product.
/keys/
/state/
/store/
/spool/
"""
_PRIVATE = ("keys", "state")
_OPEN = ("repo-metadata/keyholders", "store", "spool")


def contents(folder: Path) -> dict[Path, bytes]:
    """The files of a new workspace, in the order in which they are written."""
    files = {folder / ".gitignore": IGNORE.encode()}
    for name in shipped.POLICIES:
        files[folder / "repo-metadata" / name] = shipped.policy(name).read_bytes()
    files[folder / settings.FILE] = settings.TEMPLATE.encode()
    return files


def create(folder: Path, *, dry_run: bool = False) -> list[Path]:
    """Make ``folder`` a workspace; returns the files that were (or would be) written.

    Raises ``NotPermitted`` (code ``exists``) when it is one already.
    """
    if (folder / settings.FILE).exists():
        raise NotPermitted(
            f"{folder} is a workspace already",
            code="exists",
            subject=str(folder / settings.FILE),
            remedy="ota repo status",
        )
    missing = {path: data for path, data in contents(folder).items() if not path.exists()}
    if dry_run:
        return list(missing)
    for name in _PRIVATE:
        durable.folder(folder / name, mode=0o700)
    for name in _OPEN:
        durable.folder(folder / name)
    for path, data in missing.items():
        durable.create(path, data)
    return list(missing)
