"""A root that lies in a folder of one's own: damaged, it is named, and nobody else is accused.

What is verified from such a file would otherwise seem to be wrong itself.

>>> check(data, Path("repo-metadata/roots/image/1.root.json"), remedy="git checkout repo-metadata")
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from signing.client.workflow import TufClient
from signing.errors import Refusal

_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def check(data: bytes, path: Path, remedy: str) -> None:
    """Raise ``Refusal`` that names the file unless it is a root, signed by its own threshold."""
    try:
        TufClient({"root.json": data}, lambda _name, _limit: None, _ANY_TIME, check_expiry=False)
    except Refusal as e:
        raise Refusal(e.code, f"{path}: {e}", subject=str(path), remedy=remedy) from e
