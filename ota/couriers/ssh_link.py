"""One SSH connection, through a chain of hops, each pinned under its own name.

Rules:

* the host key is compared with the pinned fingerprints before anything is sent; there is no file
  of known hosts, and no key is ever learnt;
* only the keys that the inventory names are offered, and only modern algorithms, unless a host's
  table names a legacy one;
* connecting, banner, authentication and channels each have a time limit; ``keepalive`` finds
  dead peers;
* every failure is an error of ours that names the hop: unreachable is told from refused, a
  changed key from a wrong user, an algorithm from either.

>>> transport = connect(hop, None, keys, limits)
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, cast

import paramiko

from ota.couriers.ssh_inventory import Hop, Limits
from ota.couriers.ssh_keys import Keys
from ota.errors import NotPermitted, OtaError, Outage, Refusal

# It tells of failures on a logger of its own, which Python would print; they are told below.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_CIPHERS: Final = (
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
)
_MACS: Final = (
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
)
_LEGACY_CIPHERS: Final = {
    "aes-cbc": ("aes128-cbc", "aes192-cbc", "aes256-cbc"),
    "3des-cbc": ("3des-cbc",),
}


class HostKeyChanged(Refusal):
    """The host shows a key that is not pinned. ``seen`` is its type and fingerprint."""

    def __init__(self, hop: Hop, seen: str) -> None:
        pinned = ", ".join(hop.fingerprints)
        super().__init__(
            "host-key-changed", f"{hop.name} shows {seen}; pinned: {pinned}", subject=hop.name
        )
        self.seen = seen


class Unpinned(NotPermitted):
    """No fingerprint is pinned for this host; nothing but its key was read."""

    def __init__(self, hop: Hop, seen: str) -> None:
        super().__init__(
            f"{hop.name} shows {seen}, and none is pinned",
            code="host-key-unpinned",
            subject=hop.name,
            remedy="compare it at the machine itself, then write it to its fingerprints",
        )
        self.seen = seen


@dataclass(frozen=True)
class Connected:
    """An open connection and the key that its host showed."""

    transport: paramiko.Transport
    seen: str


def connect(hop: Hop, via: paramiko.Transport | None, keys: Keys, limits: Limits) -> Connected:
    """Connect, check the pinned key, authenticate.

    Raises ``Outage`` (``ssh-unreachable``, ``ssh-algorithm``, ``ssh-protocol``),
    ``HostKeyChanged``, ``Unpinned`` or ``NotPermitted`` (``ssh-auth``).
    """
    offered = keys.of(hop)
    transport = _transport(hop, _socket(hop, via, limits), limits)
    try:
        with _told(hop, "handshake"):
            transport.start_client(timeout=limits.banner)
            key = transport.get_remote_server_key()
        seen = f"{key.get_name()} {key.fingerprint}"
        if not hop.fingerprints:
            raise Unpinned(hop, seen)
        if key.fingerprint not in hop.fingerprints:
            raise HostKeyChanged(hop, seen)
        with _told(hop, "authentication"):
            _authenticate(transport, hop, offered)
    except BaseException:
        close(transport)
        raise
    transport.set_keepalive(limits.keepalive)
    return Connected(transport, seen)


def close(transport: paramiko.Transport) -> None:
    """End a connection, however it stands; one that is dead says so where it says goodbye."""
    with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
        transport.close()


class _Pipe:
    """A forwarded connection, as the socket of the connection inside it.

    The library closes it from one thread while another one still sends. After the close, the hop
    gives the channel's number to the next connection through it: what is sent late would land in
    a stranger's stream, or end the hop's connection as a breach of the protocol. So nothing is
    sent here after the close.
    """

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel
        self._lock = Lock()
        self._closed = False

    def send(self, data: bytes) -> int:
        with self._lock:
            if self._closed:
                raise OSError(errno.EPIPE, "closed")
            return self._channel.send(data)

    def recv(self, size: int) -> bytes:
        return self._channel.recv(size)

    def settimeout(self, seconds: float | None) -> None:
        self._channel.settimeout(seconds)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._channel.close()


def _socket(hop: Hop, via: paramiko.Transport | None, limits: Limits) -> socket.socket | _Pipe:
    where = (hop.address, hop.port)
    try:
        if via is not None:
            here = ("127.0.0.1", 0)
            return _Pipe(via.open_channel("direct-tcpip", where, here, timeout=limits.connect))
        made = socket.create_connection(where, timeout=limits.connect)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except paramiko.ChannelException as e:
        raise _unreachable(hop, f"the hop before it says: {e.text or e.code}") from e
    except (OSError, EOFError, UnicodeError, paramiko.SSHException) as e:
        # the library keeps one failure for all channels: another thread may have taken ours
        told = "the hop before it could not connect" if via is not None else _why(e)
        raise _unreachable(hop, told) from e
    return made


def _transport(hop: Hop, sock: socket.socket | _Pipe, limits: Limits) -> paramiko.Transport:
    try:
        made = paramiko.Transport(cast("socket.socket", sock))  # four methods of one are used
    except (OSError, EOFError, paramiko.SSHException) as e:
        sock.close()
        raise _unreachable(hop, _why(e)) from e
    made.set_log_channel(f"paramiko.{hop.name}")
    made.banner_timeout = limits.banner
    made.handshake_timeout = limits.banner
    made.auth_timeout = limits.auth
    made.channel_timeout = limits.channel
    options = made.get_security_options()
    ciphers = [name for word in hop.legacy for name in _LEGACY_CIPHERS.get(word, ())]
    options.ciphers = (*_CIPHERS, *ciphers)
    options.digests = (*_MACS, *(["hmac-sha1"] if "hmac-sha1" in hop.legacy else []))
    return made


def _authenticate(
    transport: paramiko.Transport, hop: Hop, offered: Sequence[paramiko.PKey]
) -> None:
    for key in offered:
        try:
            transport.auth_publickey(hop.user, key)
        except paramiko.BadAuthenticationType:
            break
        except paramiko.AuthenticationException:
            if not transport.is_active():
                break
            continue
        if transport.is_authenticated():
            return
    raise NotPermitted(
        f"{hop.name} does not take the key of user {hop.user}",
        code="ssh-auth",
        subject=hop.name,
        remedy=f"ota ssh check; the key's public half belongs to authorized_keys of {hop.user}",
    )


@contextlib.contextmanager
def _told(hop: Hop, step: str) -> Iterator[None]:
    """What the library says of a step that failed."""
    try:
        yield
    except OtaError:
        raise
    except paramiko.ssh_exception.IncompatiblePeer as e:
        raise Outage(
            f"{hop.name}: nothing in common: {e}",
            code="ssh-algorithm",
            subject=hop.name,
            remedy=f'renew its SSH server, or name what it needs in legacy = [...] of "{hop.name}"',
        ) from e
    except (paramiko.SSHException, OSError, EOFError) as e:
        raise Outage(
            f"{hop.name}: {step}: {_why(e)}",
            code="ssh-protocol",
            subject=hop.name,
            remedy="ota ssh check",
        ) from e


def _unreachable(hop: Hop, why: str) -> Outage:
    return Outage(
        f"{hop.name} ({hop.address}:{hop.port}): {why}",
        code="ssh-unreachable",
        subject=hop.name,
        remedy="ota ssh check",
    )


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = "".join(c if c.isprintable() else " " for c in str(error))[:200]
    return text or "the connection ended"
