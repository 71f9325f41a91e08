"""``[feed]`` of agent.toml: one table, with the keys that its ``kind`` knows and no others.

>>> IotJobsOptions(endpoint="a1-ats.iot.eu-west-1.amazonaws.com", certificate=..., key=...)
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

import msgspec

from ota.agent import secret
from ota.agent.options import Seconds, absolute
from signing import strict
from signing.errors import Malformed

_HOST: Final = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9-]{0,62}))*"
)
ON_TOKEN: Final = "hsm:"  # noqa: S105 - the beginning of a URI
"""How the URI of a key on a token begins."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Way = Literal["mqtt-443", "https"]


class _Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every kind refuses keys that it does not know."""

    @property
    def kind(self) -> str:
        """Its word in agent.toml."""
        return str(self.__struct_config__.tag)

    @property
    def patience(self) -> float:
        """Seconds that one look waits for the feed's first word."""
        return 0.0

    def at_once(self) -> Self:
        """For a single look: nobody waits for a random moment."""
        return self


class NoFeedOptions(_Options, frozen=True, tag_field="kind", tag="none"):
    """The agent only polls."""

    def check(self) -> None:
        """Nothing can be wrong."""


class SpoolOptions(_Options, frozen=True, kw_only=True, tag_field="kind", tag="spool"):
    """``path``: this device's own spool folder."""

    path: str

    def check(self) -> None:
        """``Malformed`` names the key."""
        if not self.path.startswith("/"):
            raise Malformed("feed.path: an absolute path is needed for the spool")


class IotJobsOptions(_Options, frozen=True, kw_only=True, tag_field="kind", tag="iot-jobs"):
    """MQTT 5 with mTLS to AWS IoT, or to a broker that speaks its topics.

    ``thing`` is the device's id and ``client_id`` is ``<thing>-ota`` where they are left out.
    ``key`` is a file, or ``hsm:OBJECT?label=TOKEN&module=PATH`` with its ``pin`` by reference.
    ``ca`` "": the system's own. ``fallback``: what to try, in this order, where ``port`` is
    blocked. ``poll``: seconds between questions over HTTPS, which nobody answers unasked.
    """

    endpoint: str
    certificate: str
    key: str
    ca: str = ""
    pin: str = ""
    port: Port = 8883
    thing: str = ""
    client_id: str = ""
    fallback: tuple[Way, ...] = ("mqtt-443", "https")
    https_port: Port = 8443
    poll: Seconds = 60.0
    timeout: Annotated[float, msgspec.Meta(ge=0.1, le=300)] = 10.0
    keepalive: Annotated[int, msgspec.Meta(ge=5, le=1200)] = 60
    start_jitter: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 10.0

    @property
    def patience(self) -> float:
        """Every way may take its time."""
        return self.timeout * (1 + len(self.fallback)) + 1.0

    def at_once(self) -> Self:
        """Without the random start."""
        return msgspec.structs.replace(self, start_jitter=0.0)

    @property
    def on_token(self) -> bool:
        """Whether the private key is on a token."""
        return self.key.startswith(ON_TOKEN)

    def check(self) -> None:
        """``Malformed`` names the key."""
        if not _HOST.fullmatch(self.endpoint):
            raise Malformed(f"feed.endpoint: {self.endpoint!r:.120} is not a host name")
        for name in ("thing", "client_id"):
            if getattr(self, name):
                strict.identifier(getattr(self, name), f"feed.{name}")
        files = {"certificate": self.certificate, "ca": self.ca}
        if not self.on_token:
            files["key"] = self.key
            if self.pin:
                raise Malformed("feed.pin: only a key on a token has one")
        else:
            secret.check(self.pin, "feed.pin")
        for name, path in files.items():
            if path or name != "ca":
                absolute(path, "feed", name)


Options = NoFeedOptions | SpoolOptions | IotJobsOptions
