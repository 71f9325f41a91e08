"""The device's side of mutual TLS: its certificate, its key in a file, and whom it trusts.

Files are read for every connection, so that a renewed certificate needs no restart.

>>> context(options, alpn="x-amzn-mqtt-ca")
"""

from __future__ import annotations

import ssl
import stat
from pathlib import Path
from typing import Final

from ota.agent.feeds.iot_trouble import outage
from ota.agent.feeds.options import IotJobsOptions
from signing.errors import Outage

MQTT_ALPN: Final = "x-amzn-mqtt-ca"
HTTPS_ALPN: Final = "x-amzn-http-ca"
"""What tells AWS, on port 443, which protocol is meant and that a certificate will come (AWS IoT
developer guide, "Device communication protocols")."""


def context(options: IotJobsOptions, alpn: str = "") -> ssl.SSLContext:
    """A context that verifies the broker and shows the certificate; ``Outage`` names the file."""
    made = ssl.create_default_context(cafile=checked("ca", options.ca) or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate = checked("certificate", options.certificate)
    key = checked("key", options.key, secret=True)
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as e:
        words = f"{certificate} and {key} are no certificate with its key"
        raise outage("feed-certificate", words, subject=certificate) from e
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


def checked(name: str, path: str, *, secret: bool = False) -> str:
    """The same path, if it can be read, and a secret by its owner and group only."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            mode = stat.S_IMODE(Path(path).stat().st_mode)
            if name == "ca":
                ssl.create_default_context(cadata=file.read(1 << 20).decode("ascii"))
    except (OSError, ValueError) as e:
        raise _unreadable(name, path, e) from e
    if secret and mode & stat.S_IRWXO:
        words = f"[feed] {name}: {path} can be read by everybody"
        raise outage("feed-certificate", words, subject=path, remedy=f"chmod 600 {path}")
    return path


def _unreadable(name: str, path: str, error: Exception) -> Outage:
    words = getattr(error, "strerror", "") or "no PEM file"
    return outage("feed-certificate", f"[feed] {name}: {path}: {words}", subject=path)


def _no_password() -> bytes:
    """An encrypted key is an error, never a prompt at the console."""
    raise ValueError("the key is encrypted")
