"""``ota fleet``: devices, their labels and their keys; one file a kind of command."""

from __future__ import annotations

from ota.cli.fleet import joining, labels, look
from ota.cli.fleet.noun import app

__all__ = ["app", "joining", "labels", "look"]
