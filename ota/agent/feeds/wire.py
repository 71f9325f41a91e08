"""What the feed needs of an MQTT 5 connection, whichever library makes it.

``wire_paho.py``  key in a file; the base install
``wire_crt.py``   key on a PKCS#11 token or in a TPM; the extra ``crt``

A wire is one connection from its CONNECT to its end, and is never opened again. It starts clean
and asks the broker to keep nothing: what matters is asked for anew (``start-next``) or kept in
the agent's outbox. All calls but the two callbacks come from one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from signing.errors import Outage

OnMessage = Callable[[str, bytes], None]
"""(topic, payload), from the wire's own thread; must not block."""
OnEnd = Callable[[Outage], None]
"""Why an open wire ended; once, from any thread; not after ``close``."""


@dataclass(frozen=True)
class Address:
    """Where a wire leads; ``alpn`` is "" where the port says enough."""

    host: str
    port: int
    alpn: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Wire(Protocol):
    """See the module. Every method raises ``Outage`` with a code of ``iot_trouble.py``."""

    def open(self) -> None:
        """Connect; returns when the broker has taken the connection."""

    def subscribe(self, filters: Iterable[str]) -> None:
        """Listen to all of these at QoS 1; returns when the broker has granted them."""

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish at QoS 1; returns when the broker has taken it, and only then."""

    def close(self) -> None:
        """Say goodbye and end; may be called twice."""
