"""Connections of one run over many hosts: jump hosts shared, hosts in parallel, sites spared.

A jump host is connected once for all hosts behind it, and again when that connection has died.
One that can not be reached fails only the hosts behind it, and is not tried again for each.

>>> with Links(inventory, keys) as links:
...     for done in links.each(["press-07", "press-08"], lambda link: link.run(["uname"])):
...         print(done.device, done.error or done.value)
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from threading import Lock, Timer
from typing import Generic, TypeVar

import paramiko

from ota.couriers import ssh_link, ssh_run
from ota.couriers.ssh_inventory import Hop, Host, Inventory
from ota.couriers.ssh_keys import Keys
from ota.errors import OtaError, Outage

T = TypeVar("T")


@dataclass(frozen=True)
class Link:
    """An open connection to one device's host. ``seen``: type and fingerprint of its key."""

    host: Host
    transport: paramiko.Transport
    inventory: Inventory
    seen: str

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float | None = None,
        stdin: bytes = b"",
        limit: int = ssh_run.OUTPUT,
    ) -> ssh_run.Ran:
        """Run a program there; see :func:`ota.couriers.ssh_run.run`."""
        limits = self.inventory.limits
        return ssh_run.run(
            self.transport,
            argv,
            timeout=timeout or limits.command,
            channel_timeout=limits.channel,
            stdin=stdin,
            limit=limit,
        )


@dataclass(frozen=True)
class Done(Generic[T]):
    """What came of one device: a value, or the error. ``seconds`` it took."""

    device: str
    value: T | None
    error: OtaError | None
    seconds: float


class Links(AbstractContextManager["Links"]):
    """See the module."""

    def __init__(self, inventory: Inventory, keys: Keys) -> None:
        self.inventory = inventory
        self._keys = keys
        self._guard = Lock()
        self._locks: dict[tuple[str, ...], Lock] = {}
        self._jumps: dict[tuple[str, ...], paramiko.Transport] = {}
        self._failed: dict[tuple[str, ...], OtaError] = {}

    def __exit__(self, *_: object) -> None:
        for chain in sorted(self._jumps, key=len, reverse=True):
            ssh_link.close(self._jumps[chain])
        self._jumps.clear()

    @contextmanager
    def opened(self, device: str, total: float | None = None) -> Iterator[Link]:
        """A connection to one device; the errors of :func:`ota.couriers.ssh_link.connect`.

        After ``total`` seconds it is cut, wherever it stands: ``Outage`` (``ssh-time-limit``).
        """
        host = self.inventory.host(device)
        via = self._jump(self.inventory.chain(device))
        made = ssh_link.connect(host, via, self._keys, self.inventory.limits)
        seconds = total or self.inventory.limits.total
        watch = Timer(seconds, ssh_link.close, (made.transport,))
        watch.daemon = True
        watch.start()
        try:
            yield Link(host, made.transport, self.inventory, made.seen)
        except Outage as e:
            if e.code == "ssh-lost" and watch.finished.is_set():
                raise Outage(
                    f"{device}: not done after {seconds:g} s",
                    code="ssh-time-limit",
                    subject=device,
                    remedy="ota ssh check",
                ) from e
            raise
        finally:
            watch.cancel()
            ssh_link.close(made.transport)

    def _jump(self, chain: tuple[Hop, ...]) -> paramiko.Transport | None:
        """The last of a chain of hops, connected; None for no hop."""
        if not chain:
            return None
        names = tuple(hop.name for hop in chain)
        with self._guard:
            lock = self._locks.setdefault(names, Lock())
        with lock:
            if names in self._failed:
                raise self._failed[names].with_traceback(None)
            found = self._jumps.get(names)
            if found is None or not found.is_active():
                found = self._open(chain, names)
            return found

    def _open(self, chain: tuple[Hop, ...], names: tuple[str, ...]) -> paramiko.Transport:
        via = self._jump(chain[:-1])
        try:
            made = ssh_link.connect(chain[-1], via, self._keys, self.inventory.limits)
        except OtaError as e:
            if isinstance(e, Outage) and e.code == "ssh-unreachable":
                e.code = "ssh-jump"
            self._failed[names] = e
            raise
        self._jumps[names] = made.transport
        return made.transport

    # -- many --------------------------------------------------------------------------------------
    def each(
        self,
        devices: Iterable[str],
        work: Callable[[Link], T],
        *,
        stop: Callable[[], bool] = bool,
        total: float | None = None,
    ) -> Iterator[Done[T]]:
        """Do ``work`` on every device, each once, as the limits allow; yields as they are done.

        One device's error stops nobody else; anything that is no ``OtaError`` is raised. Once
        ``stop()`` is true nothing more is begun. ``total``: seconds for one device.
        """
        queues: dict[str, deque[str]] = {}
        for device in dict.fromkeys(devices):
            host = self.inventory.hosts.get(device)
            queues.setdefault(host.site if host else "", deque()).append(device)
        busy: Counter[str] = Counter()
        most = self.inventory.limits.parallel
        going: dict[Future[Done[T]], str] = {}
        with ThreadPoolExecutor(max_workers=most, thread_name_prefix="ssh") as pool:
            while queues or going:
                if stop():
                    queues.clear()
                for site in _free(queues, busy, self.inventory.parallel, most - len(going)):
                    device = queues[site].popleft()
                    going[pool.submit(self._one, device, work, total)] = site
                    busy[site] += 1
                    if not queues[site]:
                        del queues[site]
                if not going:
                    return
                finished, _ = wait(going, return_when=FIRST_COMPLETED)
                for future in finished:
                    busy[going.pop(future)] -= 1
                    yield future.result()

    def _one(self, device: str, work: Callable[[Link], T], total: float | None) -> Done[T]:
        began = time.monotonic()
        try:
            with self.opened(device, total) as link:
                value = work(link)
        except OtaError as e:
            return Done(device, None, e, time.monotonic() - began)
        return Done(device, value, None, time.monotonic() - began)


def _free(
    queues: dict[str, deque[str]],
    busy: Counter[str],
    bears: Callable[[str], int],
    room: int,
) -> list[str]:
    """Sites that bear another connection, in turn; a site as often as it bears more."""
    taken: Counter[str] = Counter()
    while ready := [s for s, q in queues.items() if taken[s] < min(len(q), bears(s) - busy[s])]:
        for site in ready:
            if taken.total() == room:
                return list(taken.elements())
            taken[site] += 1
    return list(taken.elements())
