"""The end of an agent: a signed receipt, then its keys and its state are destroyed.

1. The receipt is signed by the identity that is about to end, and stored outside of what is
   destroyed. It names the order, the key's fingerprint, and what will be gone.
2. The outcome is reported and handed over first (``runner.py``): afterwards nobody could sign it.
3. The key is overwritten and removed, then everything in the state folder. What the components
   run stays as it is, and so does a key on a token, which is not this agent's to destroy.

>>> wiping.receipt(run, action); wiping.destroy(run)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from ota.agent.runs.failing import StepFailed
from ota.agent.runs.journal import Run
from ota.agent.state import State
from signing import durable, receipt, statement, strict
from signing.playbooks import values as playbook_values
from signing.playbooks.steps import Wipe
from signing.receipt import Receipt

_KEPT = frozenset({"lock"})
"""Held by this very process; an empty file that means nothing."""
_DESTROYING = "destroying"


@dataclass
class Wiping:
    """``folder`` is the agent's own; ``now`` the used time; ``courier``: whether it has a feed."""

    folder: Path
    device: str
    signer: Signer
    state: State
    now: Callable[[], datetime]
    courier: bool

    def receipt(self, run: Run, action: Wipe) -> None:
        """Sign and store the receipt; ``StepFailed`` when it would be destroyed with the rest."""
        path = Path(playbook_values.argument(action.receipt, run.assignment.parameters))
        if path.resolve().is_relative_to(self.folder.resolve()):
            raise StepFailed(f"{path} would be destroyed, too", code="receipt-inside")
        body = Receipt(
            schema=1,
            device=self.device,
            state_id=self.state.get("state_id"),
            order=run.order,
            rollout=run.assignment.rollout,
            time=strict.stamp(self.now()),
            keyid=self.signer.public_key.keyid,
            destroyed=tuple(sorted(p.name for p in self.folder.iterdir() if p.name not in _KEPT)),
        )
        durable.replace(path, statement.sign("receipt", receipt.to_body(body), self.signer))

    def undelivered(self) -> bool:
        """Whether reports wait that somebody could still take."""
        return self.courier and bool(self.state.outbox())

    def destroy(self, run: Run) -> None:
        """Overwrite the key, then remove everything; repeated, it finishes."""
        self.state.runs.note(run, code=_DESTROYING)
        self.state.close()
        _destroy(self.folder)


def _destroy(folder: Path) -> None:
    key = folder / "identity" / "key.pem"
    with contextlib.suppress(FileNotFoundError):
        length = key.stat().st_size
        with key.open("r+b") as file:
            file.write(secrets.token_bytes(length))
            file.flush()
            os.fsync(file.fileno())
        key.unlink()
        durable.sync_folder(key.parent)
    for path in sorted(folder.iterdir(), key=_state_last):
        if path.name in _KEPT:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    durable.sync_folder(folder)


def finish(folder: Path) -> None:
    """Finish a destruction that was cut short, where not enough is left for an agent to do it."""
    identity = folder / "identity"
    whole = (identity / "key.pem").exists() and (identity / "enrolment.json").exists()
    if whole or not (folder / "state.db").exists():
        return
    with durable.locked(folder / "lock"):
        state = State.open(folder)
        run = state.runs.open()
        state.close()
        if run is not None and run.state == "WIPING" and run.code == _DESTROYING:
            _destroy(folder)


def _state_last(path: Path) -> bool:
    """The journal goes last: until then a restart finds what it was doing."""
    return path.name.startswith("state.db")
