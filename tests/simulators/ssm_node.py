"""A managed node as the SSM agent is one: it runs documents of schema 2.2, strictly.

Its programs are found in its own folder; what a document means is ``ssm_documents.py``'s to say.

>>> Node("mi-0123456789abcdef0", folder).run(document, {"Order": "..."})
Ran(status=0, out='{"schema":1,...}', err='')
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators import ssm_documents


@dataclass(frozen=True)
class Ran:
    """Exit status and both streams."""

    status: int
    out: str
    err: str


class Node:
    """One machine: its folder holds ``agent.toml`` and ``bin``, which its programs are found in."""

    def __init__(self, node: str, folder: Path, device: str = "") -> None:
        self.id, self.folder, self.device = node, folder, device
        self.ping = "Online"
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        agent = folder / "bin" / "ota-agent"
        agent.write_text(
            f'#!/bin/sh\nexec {sys.executable} -m ota.agent.main "$@" --config {folder}/agent.toml\n'
        )
        agent.chmod(0o755)

    def run(self, document: Mapping[str, Any], parameters: Mapping[str, str]) -> Ran:
        """Run every step of a document, as strictly as ``ssm_documents`` does."""
        found = ssm_documents.run(
            json.dumps(document),
            dict(parameters),
            PATH=f"{self.folder}/bin:{os.environ['PATH']}",
            HOME=str(self.folder),
            PYTHONPATH=os.pathsep.join(map(str, sys.path)),
        )
        out, err = ("".join(getattr(p, n) for p in found.plugins) for n in ("out", "err"))
        return Ran(max(plugin.code for plugin in found.plugins), out, err)
