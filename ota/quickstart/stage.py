"""The stage of a quickstart: a workspace, its keys and repositories, a store on loopback.

Everything is what a person would make with ``ota init``, ``key generate``, ``repo create`` and
so on, through the same use cases, and stays there afterwards: ``cd`` into it and go on.
The passphrase of all keys is random and lies in ``keys/passphrase``, mode 0600.

>>> with Stage(folder) as stage:
...     stage.publish(Build(...))
...     stage.roll_out("app-1", "app@1.0.0", waves, on_step=print)
"""

from __future__ import annotations

import json
import secrets
import socket
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from ota import workspace
from ota.errors import NotPermitted, StillRunning
from ota.repositories.release import Build
from ota.settings import settings
from ota.wiring.wiring import Wiring
from signing import durable

ONLINE = ("image-online", "director-online")
SIGN_ROOTS = ("root-1", "root-2", "targets-1", "targets-2", "director-root-1", "director-root-2")
SIGN_RELEASES = ("targets-1", "targets-2")
KEYHOLDERS = (
    *("root-1", "root-2", "root-3", "targets-1", "targets-2", "targets-3"),
    *("director-root-1", "director-root-2", "director-root-3", *ONLINE, "author", "approver"),
)
_INTERVAL = 0.15
_MOVING = frozenset({"RUNNING", "ROLLING_BACK"})

OnStep = Callable[[dict[str, Any]], None]


def now() -> datetime:
    """The operator's clock, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


class Stage:
    """See the module; a context manager that stops its store when it is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()

    def __enter__(self) -> Self:
        self.prepare()
        self._serve()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()
        self.wiring.close()

    # -- making ---------------------------------------------------------------------------------
    def prepare(self) -> None:
        """A fresh workspace with generated keys and both repositories published."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise NotPermitted(
                f"{self.folder} is not empty",
                code="exists",
                subject=str(self.folder),
                remedy="ota quickstart another-folder",
            )
        workspace.create(self.folder)
        durable.create(
            self.folder / "keys" / "passphrase", secrets.token_urlsafe(24).encode(), mode=0o600
        )
        toml = self.folder / settings.FILE
        text = toml.read_text().replace('default = "prompt"', 'default = "file:keys/passphrase"')
        durable.replace(toml, text.encode())
        self.wiring = Wiring(settings.load(self.folder, {}), _nobody, now)
        for name in KEYHOLDERS:
            self.wiring.keyring.generate(name, "ed25519", self.wiring.new_passphrase(name))
        del self.wiring.policy, self.wiring.keyring  # both are read anew, now with public keys
        repositories = self.wiring.repositories
        repositories.create(now())
        for name in SIGN_ROOTS:
            repositories.sign(name, now())
        repositories.publish(now())

    def _serve(self) -> None:
        import uvicorn  # noqa: PLC0415 - `ota --help` stays quick

        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            self.wiring.store_application(), log_level="error", access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True
        )
        self._thread.start()

    def roots(self) -> list[dict[str, str]]:
        """File and fingerprint of both first roots: ``director`` first, then ``image``."""
        return self.wiring.first_roots()

    # -- releasing and rolling out ----------------------------------------------------------------
    def publish(self, *builds: Build) -> None:
        """Sign releases with two keyholders and publish them."""
        for build in builds:
            self.wiring.releases.add(build, now())
        for name in SIGN_RELEASES:
            self.wiring.releases.sign(name, now())
        self.wiring.releases.publish(now())

    def start(
        self, slug: str, release: str, waves: Sequence[dict[str, Any]], select: str = ""
    ) -> str:
        """Plan, sign as the author, approve as the approver, start; returns the rollout's id."""
        spec: dict[str, Any] = {
            "rollout": slug,
            "release": release,
            "waves": list(waves),
            "soak": "0s",
            "deadline": "2m",
        }
        if select:
            spec["select"] = select
        plan = self.wiring.plan(json.dumps(spec).encode(), f"{slug}.yaml")
        signed = self.wiring.sign_plan(plan, "author")
        approval = self.wiring.sign_approval(signed, "approver", now() + timedelta(days=1))
        self.wiring.campaign.start(signed, [approval], now())
        return plan.rollout

    def run(self, rollout: str, on_step: OnStep, limit: float = 60.0) -> dict[str, Any]:
        """Step until it neither runs nor goes back; returns its status."""
        until = time.monotonic() + limit
        while True:
            self.wiring.campaign.step(rollout, now())
            status = self.wiring.campaign.status(rollout, now())
            on_step(status)
            if status["state"] not in _MOVING:
                return status
            if time.monotonic() > until:
                raise StillRunning(f"{rollout} is {status['state']} after {limit:.0f} s")
            time.sleep(_INTERVAL)

    def roll_out(
        self,
        slug: str,
        release: str,
        waves: Sequence[dict[str, Any]],
        on_step: OnStep,
        select: str = "",
    ) -> dict[str, Any]:
        """Start and run."""
        return self.run(self.start(slug, release, waves, select), on_step)


def _nobody(prompt: str) -> str:
    raise NotPermitted(f"{prompt}: a quickstart asks nobody")
