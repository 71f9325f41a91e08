"""Packages, by the system's own manager, or a program of the owner's.

``package_manager`` in agent.toml is called as ``argv + [verb, name]``; the verbs are ``installed``
(exit status 0: it is), ``install`` and ``remove``. Without it the first of apt, dnf, zypper and apk
that is there is used.

>>> Packages.here(None).bring("stunnel4", "present", clock)
'skipped'
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Final, Literal

from ota.agent.runs import programs
from ota.agent.runs.failing import Clock, StepFailed

Verb = Literal["installed", "install", "remove"]
Argv = tuple[str, ...]

_QUIET: Final = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q")
KNOWN: Final[Mapping[str, Mapping[Verb, Argv]]] = {
    "apt-get": {
        "installed": ("dpkg-query", "-W", "-f=${db:Status-Status}\n", "--"),
        "install": (*_QUIET, "--no-install-recommends", "install", "--"),
        "remove": (*_QUIET, "remove", "--"),
    },
    "dnf": {
        "installed": ("rpm", "-q", "--quiet", "--"),
        "install": ("dnf", "-y", "-q", "install", "--"),
        "remove": ("dnf", "-y", "-q", "remove", "--"),
    },
    "zypper": {
        "installed": ("rpm", "-q", "--quiet", "--"),
        "install": ("zypper", "-n", "-q", "install", "--"),
        "remove": ("zypper", "-n", "-q", "remove", "--"),
    },
    "apk": {
        "installed": ("apk", "info", "-e", "--"),
        "install": ("apk", "add", "-q", "--"),
        "remove": ("apk", "del", "-q", "--"),
    },
}
"""Program to look for -> what each verb runs; the package's name follows."""


class Packages:
    """One package manager."""

    def __init__(self, verbs: Mapping[Verb, Sequence[str]] | None) -> None:
        self._verbs = verbs

    @classmethod
    def here(cls, owner: Sequence[str] | None) -> Packages:
        """The manager of this machine; ``owner`` is ``package_manager`` of agent.toml."""
        if owner:
            return cls({v: (*owner, v) for v in ("installed", "install", "remove")})
        return cls(next((verbs for name, verbs in KNOWN.items() if shutil.which(name)), None))

    def bring(self, name: str, state: str, clock: Clock) -> Literal["done", "skipped"]:
        """Have a package, or not, and see that it is so; ``StepFailed``."""
        if self._verbs is None:
            raise StepFailed("no package manager is known here", code="no-program")
        wanted = state == "present"
        if self._installed(name, clock) == wanted:
            return "skipped"
        verb: Verb = "install" if wanted else "remove"
        programs.must((*self._verbs[verb], name), clock, keep_children=True)
        if self._installed(name, clock) != wanted:
            raise StepFailed(f"{name} is not {state} after all", code="package-state")
        return "done"

    def _installed(self, name: str, clock: Clock) -> bool:
        assert self._verbs is not None  # noqa: S101 - asked by bring
        argv = (*self._verbs["installed"], name)
        if argv[0] != "dpkg-query":
            return programs.ask(argv, clock)
        try:
            return programs.must(argv, clock).strip() == b"installed"
        except StepFailed as e:
            if e.code == "exit":
                return False
            raise
