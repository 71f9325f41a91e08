"""Files that ship with the product, from the wheel or from a checkout.

``repo-metadata/`` and ``playbooks/`` lie at the top of the tree, for people to read, and in
``ota/_shipped/`` of the wheel. Nothing else in the product knows that there are two places.

>>> policy("image.toml").read_text()
"""

from __future__ import annotations

from pathlib import Path

from ota.errors import NotFound

POLICIES = ("image.toml", "director.toml", "rollout.toml")
"""The role policies that ``ota init`` copies into a workspace."""


def folder(name: str) -> Path:
    """``repo-metadata`` or ``playbooks`` as shipped; ``NotFound`` in a broken installation."""
    package = Path(__file__).resolve().parent
    for place in (package / "_shipped" / name, package.parent / name):
        if place.is_dir():
            return place
    raise NotFound(
        f"this installation lacks its {name}/ folder",
        subject=name,
        remedy="pip install --force-reinstall 'ota-orchestrator[ops]'",
    )


def playbooks() -> list[Path]:
    """The shipped playbooks, by name."""
    return sorted(folder("playbooks").glob("*.yaml"))


def policy(name: str) -> Path:
    """One shipped role policy."""
    return folder("repo-metadata") / name
