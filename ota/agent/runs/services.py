"""Services, by whatever manages them here: systemd, ``service``, or a program of the owner's.

``service_manager`` in agent.toml is called as ``argv + [verb, name]``; the verbs are ``start``,
``stop``, ``restart``, ``reload``, ``status`` (exit status 0: it runs), ``enable``, ``disable`` and
``enabled``. Without it systemd is used where it runs, else ``service``.

>>> Services.here(None).bring("nginx", "restarted", None, clock)
'done'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from ota.agent.runs import programs
from ota.agent.runs.failing import Clock, StepFailed

Outcome = Literal["done", "skipped"]
SYSTEMD: Final = Path("/run/systemd/system")
_SETTLE: Final = 0.2
_DIES: Final = 0.5
"""Seconds after which a service that dies at once is no longer taken for one that runs."""


class Services:
    """One service manager; ``argv_of(verb, name)`` is how it is called."""

    def __init__(self, argv_of: Callable[[str, str], Sequence[str]]) -> None:
        self._argv_of = argv_of

    @classmethod
    def here(cls, owner: Sequence[str] | None, systemd: Path = SYSTEMD) -> Services:
        """The manager of this machine; ``owner`` is ``service_manager`` of agent.toml."""
        if owner:
            own = tuple(owner)
            return cls(lambda verb, name: (*own, verb, name))
        return cls(_systemctl if systemd.is_dir() else _service)

    def bring(self, name: str, state: str, enabled: bool | None, clock: Clock) -> Outcome:
        """Bring a service into a state, and see that it is; ``StepFailed``."""
        changed = self._switch(name, state, clock)
        if enabled is not None and self._says("enabled", name, clock) != enabled:
            self._do("enable" if enabled else "disable", name, clock)
            changed = True
        return "done" if changed else "skipped"

    def _switch(self, name: str, state: str, clock: Clock) -> bool:
        wanted = state != "stopped"
        if state in {"running", "stopped"} and self._says("status", name, clock) == wanted:
            return False
        verbs = {
            "running": "start",
            "stopped": "stop",
            "restarted": "restart",
            "reloaded": "reload",
        }
        if state in verbs:
            self._do(verbs[state], name, clock)
        try:
            self._settle(name, clock, wanted=wanted, dies=state in verbs)
        except StepFailed as e:
            now = "does not run" if wanted else "still runs"
            raise StepFailed(f"{name} {now}", code="service-state") from e
        return True

    def _settle(self, name: str, clock: Clock, *, wanted: bool, dies: bool) -> None:
        """Wait until it is so; ``StepFailed`` (``timeout``). ``dies``: it was just started."""
        if wanted and dies:
            clock.pause(_DIES)
        while self._says("status", name, clock) != wanted:
            clock.pause(_SETTLE)

    def _do(self, verb: str, name: str, clock: Clock) -> None:
        programs.must(self._argv_of(verb, name), clock, keep_children=True)

    def _says(self, verb: str, name: str, clock: Clock) -> bool:
        return programs.ask(self._argv_of(verb, name), clock)


def _systemctl(verb: str, name: str) -> Sequence[str]:
    words = {"status": ("is-active", "--quiet"), "enabled": ("is-enabled", "--quiet")}
    return ("systemctl", *words.get(verb, (verb,)), "--", name)


def _service(verb: str, name: str) -> Sequence[str]:
    if verb in {"enable", "disable"}:
        return ("update-rc.d", name, verb)
    if verb == "enabled":
        return ("sh", "-c", 'ls /etc/rc[2345].d/S[0-9][0-9]"$1" >/dev/null 2>&1', "enabled", name)
    return ("service", name, verb)
