"""A managed node as the SSM agent is one: it runs documents of schema 2.2, strictly.

Parameters reach the script as environment variables (``interpolationType: ENV_VAR``) and in no
other way; a step whose precondition does not hold is skipped; the first failed step ends the run.

>>> Node("mi-0123456789abcdef0", folder).run(document, {"Order": "..."})
Ran(status=0, out='{"schema":1,...}', err='')
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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
        """Run every step; ``parameters`` were held to their patterns before."""
        assert document["schemaVersion"] == "2.2", document["schemaVersion"]
        env = {"PATH": f"{self.folder}/bin:{os.environ['PATH']}", "HOME": str(self.folder)}
        env["PYTHONPATH"] = os.pathsep.join(map(str, sys.path))
        for name, value in parameters.items():
            assert document["parameters"][name]["interpolationType"] == "ENV_VAR", name
            env[f"SSM_{name}"] = value
        out = err = ""
        for step in document["mainSteps"]:
            if step.get("precondition", {}).get("StringEquals", ["", "Linux"])[1] != "Linux":
                continue
            assert step["action"] == "aws:runShellScript", step["action"]
            script = "\n".join(step["inputs"]["runCommand"])
            assert "{{" not in script, "a parameter in a shell's text"
            done = subprocess.run(
                ["/bin/sh", "-c", script],
                env=env,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=float(step["inputs"].get("timeoutSeconds", 3600)),
                check=False,
            )
            out, err = out + done.stdout, err + done.stderr
            if done.returncode:
                return Ran(done.returncode, out, err)
        return Ran(0, out, err)
