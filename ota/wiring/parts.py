"""The parts of one workspace that use cases are made of: keys, repositories, store, registry.

Everything is made when it is first asked for, with plain constructor arguments. ``ota/wiring/wiring.py``
adds the use cases.

>>> Parts(settings.load(Path("plant"), os.environ), ask, clock).repositories
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from ota.errors import Misuse, NotFound
from ota.ports import ArtifactStore, Clock
from ota.repositories.catalogue import StoreCatalogue
from ota.repositories.director import DirectorDesk
from ota.repositories.keyring import Holder, Keyring
from ota.repositories.repo import Repositories
from ota.settings import edit as settings_edit
from ota.settings.settings import Settings
from ota.wiring import store as wiring_store
from signing import layout
from signing import policy as policies
from signing.policy import Policy

if TYPE_CHECKING:
    from ota.fleet.registry import Registry


class Parts:
    """The parts. ``ask(prompt)`` asks a person for a secret."""

    def __init__(self, settings: Settings, ask: Callable[[str], str], clock: Clock) -> None:
        self.settings = settings
        self._ask = ask
        self._clock = clock

    def close(self) -> None:
        """Let go of the registry and of what was seen, where they were opened."""
        if "registry" in self.__dict__:
            self.registry.close()
        if "repositories" in self.__dict__:
            self.repositories.close()

    # -- who signs -----------------------------------------------------------------------------
    @cached_property
    def policy(self) -> Policy:
        """The role policies; ``Malformed`` names file and key."""
        return policies.load(self.settings.policies)

    @cached_property
    def keyring(self) -> Keyring:
        """Keys of the keyholders."""
        return self._keyring(self.settings)

    def _keyring(self, settings: Settings) -> Keyring:
        return Keyring(
            self.policy,
            settings.key_uri,
            settings.workspace,
            lambda name: settings.passphrase(name, self._ask),
            settings.env,
        )

    def import_key(self, name: str, uri: str | None, pem: bytes | None, *, prove: bool) -> Holder:
        """Take a key from where it lives; its public half and its URI are written when it is good."""
        if uri is None:
            return self.keyring.take(name, None, pem)
        settings_edit.check_key(self.settings, name, uri)
        ring = self._keyring(self.settings.with_key(name, uri))
        holder = ring.take(name, uri, pem, prove=prove)
        settings_edit.add_key(self.settings, name, uri)
        return holder

    def new_passphrase(self, name: str) -> bytes:
        """The passphrase of a key to be made; a prompt is answered twice."""
        return self.settings.passphrase(name, self._ask_twice)

    def _ask_twice(self, prompt: str) -> str:
        first = self._ask(prompt)
        if self._ask(f"{prompt}, again") != first:
            raise Misuse("the two passphrases differ", code="passphrase", remedy="try again")
        return first

    # -- what may run, and what shall ------------------------------------------------------------
    @cached_property
    def store(self) -> ArtifactStore:
        """Where signed bytes lie for devices to fetch: a folder or a bucket."""
        return wiring_store.make(self.settings)

    @cached_property
    def repositories(self) -> Repositories:
        """Both repositories; a passphrase is asked for when something is signed."""
        return Repositories(self.settings.workspace, self.policy, self.store, self.keyring.deferred)

    @cached_property
    def catalogue(self) -> StoreCatalogue:
        """The image repository, verified when its timestamp changes."""
        return StoreCatalogue(
            self.policy,
            self.store,
            lambda: self.repositories.anchor("image"),
            self._clock,
            self.repositories.memory,
        )

    @cached_property
    def desk(self) -> DirectorDesk:
        """Director metadata of devices."""
        return DirectorDesk(self.repositories.director(), self.repositories.publisher)

    def unlock_director(self) -> None:
        """Open the director's online key now, before anything is written."""
        repos = self.repositories
        for name in repos.online.names(repos.root("director"), "targets"):
            self.keyring.signer(name)

    @cached_property
    def registry(self) -> Registry:
        """The registry of devices; one that was lost is not quietly begun anew (``NotFound``)."""
        if self.settings.registry_is_new() and layout.devices(self.store.list):
            raise NotFound(
                f"the registry is empty, and the store has metadata of devices: {self._file()}",
                code="registry-lost",
                subject=self._file(),
                remedy="restore it from a backup; or register the devices again",
            )
        return self._open_registry()

    def begin_registry(self) -> Registry:
        """The same for registering devices, which may begin one anew."""
        if "registry" not in self.__dict__:
            self.registry = self._open_registry()
        return self.registry

    def _open_registry(self) -> Registry:
        from ota.fleet.registry import Registry  # noqa: PLC0415 - SQLAlchemy is slow to import

        return Registry(self.settings.registry_url)

    def _file(self) -> str:
        return self.settings.registry_url.removeprefix("sqlite:///")
