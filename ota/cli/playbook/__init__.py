"""``ota playbook``: procedures that devices verify before they run them; one file a stage."""

from __future__ import annotations

from ota.cli.playbook import look, native, run, sign
from ota.cli.playbook.noun import app

__all__ = ["app", "look", "native", "run", "sign"]
