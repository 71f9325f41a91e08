"""The operator's SSH keys: from files by reference, or the running SSH agent where chosen.

Nothing is looked for: no ``~/.ssh``, no agent that nobody chose. A key file must be private
(mode 0600), its passphrase comes by reference; both are read when a hop first needs them, before
anything is sent.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from threading import Lock

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_ssh_private_key,
)

from ota.couriers.ssh_inventory import Hop
from ota.errors import NotFound, NotPermitted

Secret = Callable[[str, str], bytes]
"""``secret(reference, where)`` -> the bytes of ``env:`` or ``file:``; see ``ota/settings/settings.py``."""


class Keys:
    """Keys by hop, each read once."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._known: dict[tuple[str, str], paramiko.PKey] = {}
        self._lock = Lock()

    def of(self, hop: Hop) -> Sequence[paramiko.PKey]:
        """The keys to offer to a hop, at least one; ``NotFound`` or ``NotPermitted``."""
        if hop.key.startswith("agent"):
            return _agent_keys(hop)
        with self._lock:
            name = (hop.key, hop.passphrase)
            if name not in self._known:
                self._known[name] = self._read(hop)
            return [self._known[name]]

    def _read(self, hop: Hop) -> paramiko.PKey:
        data = self._secret(hop.key, f"key of {hop.name}")
        word = None
        if hop.passphrase:
            word = self._secret(hop.passphrase, f"passphrase of {hop.name}")
        return parse(data + b"\n", word, hop.key)


def parse(data: bytes, passphrase: bytes | None, source: str) -> paramiko.PKey:
    """An OpenSSH or PEM private key: Ed25519, ECDSA or RSA of at least 2048 bits."""
    try:
        try:
            loaded = load_ssh_private_key(data, passphrase)
        except ValueError:
            loaded = load_pem_private_key(data, passphrase)  # type: ignore[assignment]  # a union each
        kind = _kind(loaded)
        word = passphrase.decode() if passphrase else None
        made: paramiko.PKey = kind.from_private_key(io.StringIO(data.decode()), password=word)
    except TypeError as e:
        raise _bad(source, "it is encrypted and no passphrase is named, or the other way") from e
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException) as e:
        raise _bad(source, "not a private key, or another passphrase") from e
    return made


def _kind(loaded: object) -> type[paramiko.PKey]:
    if isinstance(loaded, ed25519.Ed25519PrivateKey):
        return paramiko.Ed25519Key
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        return paramiko.ECDSAKey
    if isinstance(loaded, rsa.RSAPrivateKey) and loaded.key_size >= 2048:
        return paramiko.RSAKey
    raise ValueError("neither Ed25519, ECDSA nor RSA of at least 2048 bits")


def _bad(source: str, why: str) -> NotPermitted:
    return NotPermitted(
        f"{source}: {why}", code="ssh-key", subject=source, remedy=f"ssh-keygen -y -f {source[5:]}"
    )


def _agent_keys(hop: Hop) -> Sequence[paramiko.PKey]:
    try:
        found = paramiko.Agent().get_keys()
    except (paramiko.SSHException, OSError) as e:
        raise NotFound(f"the SSH agent: {e}", code="ssh-agent", remedy="ssh-add -l") from e
    wanted = hop.key.removeprefix("agent").removeprefix(":")
    found = tuple(key for key in found if wanted in {"", key.fingerprint})
    if not found:
        raise NotFound(
            f"{hop.name} takes {wanted or 'keys'} from an SSH agent: none runs, or it has none",
            code="ssh-agent",
            subject=hop.name,
            remedy="ssh-add -l",
        )
    return found
