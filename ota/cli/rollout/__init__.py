"""``ota rollout``: plan, approve, start, move, stop and look at rollouts; one file a stage."""

from __future__ import annotations

from ota.cli.rollout import begin, look, move, stop, tidy
from ota.cli.rollout.noun import app

__all__ = ["app", "begin", "look", "move", "stop", "tidy"]
