"""``ssh.toml``: which device is reached at which address, through which hops, by which pinned keys.

```toml
[defaults]                              # for every hop and host that does not say otherwise
user = "ota"
key = "file:keys/ssh-plant"             # a private key, mode 0600; or "agent", "agent:SHA256:..."
passphrase = "env:OTA_SSH_PASSPHRASE"   # only where the key is encrypted
command = ["/opt/ota/bin/ota-agent"]

[sites.lyon]
parallel = 4                            # connections to its hosts at one time
via = ["jump-lyon"]                     # the chain of hops to them, nearest first

[hops.jump-lyon]
address = "jump.lyon.example"
fingerprints = ["SHA256:..."]           # of its host key; two while it is being replaced

[hosts.press-07]                        # the device's id
site = "lyon"
address = "10.20.0.7"
fingerprints = ["SHA256:..."]
```

Every hop and every host is pinned under its own name. A key that is not pinned is never
accepted, the first time neither: with ``fingerprints = []`` nothing but its fingerprint is read.

>>> inventory = read(data, "ssh.toml")
>>> inventory.chain("press-07")
(Hop(name='jump-lyon', ...),)
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from ota.errors import Malformed, NotFound
from signing import strict

LIMIT: Final = 4 * 1024 * 1024
_FINGERPRINT: Final = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_KEY: Final = re.compile(r"file:.+|agent(:SHA256:[A-Za-z0-9+/]{43})?")
_ADDRESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:%_-]{0,252}|::[A-Za-z0-9:.]*")
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@\\-]{0,63}")
_PATH: Final = re.compile(r"/[A-Za-z0-9._~+,=@%/ -]{0,1000}")
_HOPS: Final = 5

Legacy = Literal["aes-cbc", "3des-cbc", "hmac-sha1"]
"""Algorithms that are offered to a host only where its table names them."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every table refuses keys that it does not know."""


class Hop(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[hops.NAME]``: one SSH server on the way.

    ``key``: ``file:PATH``, ``agent`` for whatever the SSH agent holds, or ``agent:SHA256:...``.
    """

    name: str = ""
    address: str
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 22
    user: str = "ota"
    key: Word = "agent"
    passphrase: str = ""
    fingerprints: tuple[str, ...]
    legacy: tuple[Legacy, ...] = ()


class Host(Hop, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[hosts.DEVICE]``.

    ``command`` starts the agent there, ``config`` is its agent.toml. ``mirror`` is the folder
    that its agent uses as store, where the device can not reach the store itself: what it is
    assigned is pushed there.
    """

    site: str = ""
    via: tuple[str, ...] | None = None
    command: Annotated[tuple[Word, ...], msgspec.Meta(min_length=1, max_length=20)] = ("ota-agent",)
    config: str = ""
    look: bool = True
    mirror: str = ""


class Site(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[sites.NAME]``: at most ``parallel`` connections to its hosts; its way in."""

    parallel: Count = 8
    via: tuple[str, ...] = ()


class Limits(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[limits]``, in seconds: of one connection, one command, one visit, one push.

    ``parallel`` connections in all; ``visit`` to ``visit_max`` seconds between two looks at a
    device that has an order; ``keepalive`` seconds without traffic.
    """

    parallel: Count = 32
    connect: Seconds = 10.0
    banner: Seconds = 15.0
    auth: Seconds = 15.0
    channel: Seconds = 15.0
    command: Seconds = 60.0
    total: Seconds = 180.0
    push: Seconds = 14_400.0
    keepalive: Annotated[int, msgspec.Meta(ge=0, le=3600)] = 15
    visit: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 2.0
    visit_max: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60.0


class _Document(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    defaults: dict[str, Any] = {}
    limits: Limits = Limits()
    sites: dict[str, Site] = {}
    hops: dict[str, dict[str, Any]] = {}
    hosts: dict[str, dict[str, Any]] = {}


T = TypeVar("T", bound=Hop)


@dataclass(frozen=True)
class Inventory:
    """The whole file, checked."""

    hosts: Mapping[str, Host]
    hops: Mapping[str, Hop]
    sites: Mapping[str, Site]
    limits: Limits

    def host(self, device: str) -> Host:
        """One device's host, or ``NotFound``."""
        found = self.hosts.get(device)
        if found is None:
            raise NotFound(
                f"{device} is not in the SSH inventory",
                code="ssh-unlisted",
                subject=device,
                remedy=f"add [hosts.{device}] to the inventory",
            )
        return found

    def chain(self, device: str) -> tuple[Hop, ...]:
        """The hops to a device, nearest first; its site's where it names none."""
        host = self.host(device)
        site = self.sites.get(host.site)
        names = host.via if host.via is not None else site.via if site else ()
        return tuple(self.hops[name] for name in names)

    def parallel(self, site: str) -> int:
        """How many connections a site bears; hosts without a site only share the whole."""
        return self.sites[site].parallel if site in self.sites else self.limits.parallel


def read(data: bytes, source: str) -> Inventory:
    """Check an inventory; ``Malformed`` names file, table and key."""
    try:
        document = msgspec.convert(tomllib.loads(data.decode()), _Document, strict=True)
        hops = {n: _filled(Hop, document, "hops", n, t) for n, t in document.hops.items()}
        hosts = {n: _filled(Host, document, "hosts", n, t) for n, t in document.hosts.items()}
        found = Inventory(hosts, hops, document.sites, document.limits)
        _check_defaults(document.defaults)
        _check_ways(found)
    except (
        msgspec.ValidationError,
        tomllib.TOMLDecodeError,
        UnicodeDecodeError,
        RecursionError,
    ) as e:
        raise Malformed(f"{source}: {e}", subject=source, remedy=f"correct {source}") from e
    except Malformed as e:
        raise Malformed(f"{source}: {e}", subject=source, remedy=f"correct {source}") from e
    return found


def _filled(kind: type[T], document: _Document, table: str, name: str, own: dict[str, Any]) -> T:
    where = f"{table}.{name}"
    strict.identifier(name, table)
    known = set(kind.__struct_fields__)
    words = {k: v for k, v in document.defaults.items() if k in known} | own
    if "name" in words:
        raise Malformed(f"{where}.name: the table's own name is its name")
    try:
        made = msgspec.convert(words | {"name": name}, kind, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{where}: {e}") from e
    _check(made, where)
    return made


def _check(hop: Hop, where: str) -> None:
    _fits(_ADDRESS, hop.address, f"{where}.address")
    _fits(_USER, hop.user, f"{where}.user")
    for text in hop.fingerprints:
        if not _FINGERPRINT.fullmatch(text):
            raise Malformed(
                f"{where}.fingerprints: {text!r:.80} is not SHA256: and 43 characters, "
                "as ssh-keygen -lf prints it"
            )
    if not _KEY.fullmatch(hop.key):
        raise Malformed(f"{where}.key: is neither file:PATH, agent nor agent:SHA256:...")
    kind, mark, rest = hop.passphrase.partition(":")
    if hop.passphrase and not (mark and rest and kind in {"env", "file"}):
        raise Malformed(f"{where}.passphrase: is a literal secret; use env:VARIABLE or file:PATH")
    if isinstance(hop, Host):
        for key in ("config", "mirror"):
            text = getattr(hop, key)
            if text and (not _PATH.fullmatch(text) or {".", ".."} & set(text.split("/"))):
                raise Malformed(f"{where}.{key}: {text!r:.80} is not a plain absolute path")
        if any(not word.isprintable() for word in hop.command):
            raise Malformed(f"{where}.command: control characters")


def _fits(pattern: re.Pattern[str], text: str, where: str) -> None:
    if not pattern.fullmatch(text):
        raise Malformed(f"{where}: {text!r:.80} does not match {pattern.pattern}")


def _check_defaults(defaults: Mapping[str, Any]) -> None:
    unknown = set(defaults) - set(Host.__struct_fields__)
    own = set(defaults) & {"name", "address", "fingerprints"}
    if unknown or own:
        raise Malformed(f"defaults: {', '.join(sorted(unknown | own))} can not stand here")


def _check_ways(inventory: Inventory) -> None:
    for name in inventory.sites:
        strict.identifier(name, "sites")
    ways = {f"sites.{n}": s.via for n, s in inventory.sites.items()}
    ways |= {f"hosts.{n}": h.via or () for n, h in inventory.hosts.items()}
    for where, via in ways.items():
        unknown = [hop for hop in via if hop not in inventory.hops]
        if unknown:
            raise Malformed(f"{where}.via: there is no [hops.{unknown[0]}]")
        if len(set(via)) < len(via) or len(via) > _HOPS:
            raise Malformed(f"{where}.via: a hop stands twice, or more than {_HOPS} hops")
    for name, host in inventory.hosts.items():
        if host.site and host.site not in inventory.sites:
            raise Malformed(f"hosts.{name}.site: there is no [sites.{host.site}]")
