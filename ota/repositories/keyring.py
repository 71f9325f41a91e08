"""Use case: the keys of the people and services that a workspace's policies name.

A private key lies with its keyholder: in an encrypted file, on a token, in AWS KMS or behind a
command, as the URI in ``[keys]`` says. Its public half lies in
``repo-metadata/keyholders/NAME.json``, for everybody. This room knows where both are and who
stands for what; only ``signing/keys/keys.py`` touches a private key.

>>> ring = Keyring(policy, settings.key_uri, settings.workspace, secret, os.environ)
>>> ring.generate("root-1", "ed25519", b"correct horse").key
>>> ring.take("root-2", "hsm:1?label=plant").key
>>> ring.signer("root-1")
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import Key, SecretsHandler, Signature, Signer

from ota.errors import Misuse, NotFound, NotPermitted, OtaError
from signing import durable, strict
from signing import policy as policies
from signing.enrolment import key_to_dict
from signing.keys import keys
from signing.policy import Policy


@dataclass(frozen=True)
class Holder:
    """One keyholder: ``key`` is None before it is made; ``private`` says where its file is."""

    name: str
    roles: tuple[str, ...]
    key: Key | None
    private: str


class DeferredSigner(Signer):
    """A signer that is opened, and its passphrase asked for, when it first signs."""

    def __init__(self, public: Key, load: Callable[[], Signer]) -> None:
        self._public = public
        self._load = load

    @property
    def public_key(self) -> Key:
        """The public half."""
        return self._public

    @classmethod
    def from_priv_key_uri(
        cls, priv_key_uri: str, public_key: Key, secrets_handler: SecretsHandler | None = None
    ) -> DeferredSigner:
        """As securesystemslib's registry asks for it."""
        return cls(
            public_key, lambda: Signer.from_priv_key_uri(priv_key_uri, public_key, secrets_handler)
        )

    def sign(self, payload: bytes) -> Signature:
        """Open the signer if it is not open, and sign."""
        return self._load().sign(payload)


class Keyring:
    """Keys by the keyholder's name. ``secret(name)`` returns the passphrase when it is needed."""

    def __init__(
        self,
        policy: Policy,
        uri: Callable[[str], str],
        base: Path,
        secret: Callable[[str], bytes],
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._policy = policy
        self._uri = uri
        self._base = base
        self._secret = secret
        self._env = env or {}
        self._open: dict[str, Signer] = {}

    def generate(self, name: str, scheme: str, passphrase: bytes) -> Holder:
        """Make a key; neither half is ever overwritten.

        Raises ``NotPermitted`` (code ``exists``, or a URI that is not ``file:``), ``Misuse``.
        """
        strict.identifier(name, "key name")
        public = policies.key_path(self._policy.folder, name)
        if public.exists():
            raise NotPermitted(
                f"{public} exists and is never overwritten",
                code="exists",
                subject=name,
                remedy="ota key list",
            )
        key = keys.generate(self._file(name), passphrase, scheme)
        durable.create(public, strict.compact(key_to_dict(key)) + b"\n")
        return self._holder(name, self._policy.holders().get(name, ()))

    def take(
        self, name: str, uri: str | None, pem: bytes | None = None, *, prove: bool = True
    ) -> Holder:
        """Write down the public half of a key that exists, after the key has shown that it signs.

        The public half is read from where ``uri`` says the key lives, or is ``pem``; without a
        ``uri`` it is the key of somebody else, and proves nothing. A public half that is there
        already must be the same key and stays as it is, byte for byte.

        Raises the errors of ``signing.keys.keys.load``; nothing is written before all is well.
        """
        path = policies.key_path(self._policy.folder, name)
        secret = functools.cache(lambda: self._secret(name))
        key = self._offered(name, uri, pem, secret)
        if path.exists():
            known = self._policy.key(name)
            if not keys.same(key, known):
                raise _other_key(name)
            key = known
        if uri is not None and prove:
            keys.prove(keys.load(uri, key, secret, base=self._base, env=self._env))
        if not path.exists():
            durable.folder(path.parent)
            durable.create(path, strict.compact(key_to_dict(key)) + b"\n")
        return Holder(name, self._policy.holders().get(name, ()), key, uri or "elsewhere")

    def _offered(
        self, name: str, uri: str | None, pem: bytes | None, secret: Callable[[], bytes]
    ) -> Key:
        if pem is not None:
            return keys.read_public(pem, f"public key of {name}")
        if uri is None:
            raise Misuse("neither a key URI nor a public key", subject=name, remedy="--uri URI")
        return keys.public(uri, secret, base=self._base, env=self._env)

    def reach(self, holder: Holder) -> str:
        """``yes``, ``-`` for a key that lies elsewhere, or the code of what is wrong.

        Asks for no secret, so a key that only its PIN or passphrase opens is as good as there.
        """
        if holder.key is None or holder.private == "elsewhere":
            return "-"
        try:
            keys.check(self._uri(holder.name), holder.key, base=self._base, env=self._env)
        except OtaError as e:
            return "yes" if e.code == "secret-needed" else e.code
        return "yes"

    def list(self) -> list[Holder]:
        """Every keyholder that a policy names or that has a public key here, by name."""
        roles = self._policy.holders()
        folder = self._policy.folder / "keyholders"
        names = {*roles, *(path.stem for path in folder.glob("*.json"))}
        return [self._holder(name, roles.get(name, ())) for name in sorted(names)]

    def signer(self, name: str) -> Signer:
        """The signer of one keyholder; asks for the passphrase once. See ``signing.keys.keys.load``."""
        if name not in self._open:
            public = self._policy.key(name)
            uri = self._uri(name)
            self._open[name] = keys.load(
                uri, public, lambda: self._secret(name), base=self._base, env=self._env
            )
        return self._open[name]

    def deferred(self, name: str) -> Signer:
        """The same, opened only when it signs: for reading, which needs no passphrase."""
        return DeferredSigner(self._policy.key(name), lambda: self.signer(name))

    def private(self, name: str) -> bool:
        """Whether this keyholder's private key can be used from here, as far as is known."""
        uri = self._uri(name)
        return not uri.startswith("file:") or self._file(name).exists()

    def _file(self, name: str) -> Path:
        uri = self._uri(name)
        if not uri.startswith("file:"):
            raise NotPermitted(
                f"the key of {name} is {uri.partition(':')[0]}:..., made where it lives",
                code="key-elsewhere",
                subject=name,
                remedy=f"ota key import {name} --uri URI",
            )
        return self._base / uri.removeprefix("file:")

    def _holder(self, name: str, roles: tuple[str, ...]) -> Holder:
        try:
            key = self._policy.key(name)
        except NotFound:
            key = None
        uri = self._uri(name)
        there = uri if self.private(name) else "elsewhere"
        return Holder(name, roles, key, there)


def _other_key(name: str) -> NotPermitted:
    return NotPermitted(
        f"repo-metadata/keyholders/{name}.json holds another key",
        code="wrong-key",
        subject=name,
        remedy="ota key list; a new key comes under a new name",
    )
