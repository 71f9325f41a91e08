"""``python -m ota`` is ``ota``."""

from __future__ import annotations

from ota.cli import main

main()
