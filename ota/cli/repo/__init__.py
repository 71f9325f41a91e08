"""``ota repo``: the image and director repositories; one file a stage of their life."""

from __future__ import annotations

from ota.cli.repo import change, gc, look, online, publish, suspects
from ota.cli.repo.noun import app, lacking, print_signed, reviewer

__all__ = [
    "app",
    "change",
    "gc",
    "lacking",
    "look",
    "online",
    "print_signed",
    "publish",
    "reviewer",
    "suspects",
]
