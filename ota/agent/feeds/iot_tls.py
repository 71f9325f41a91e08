"""The device's side of mutual TLS: its certificate, its key in a file, and whom it trusts.

Files are read for every connection, so that a renewed certificate needs no restart.

>>> context(options, alpn="x-amzn-mqtt-ca")
"""

from __future__ import annotations

import ssl
from typing import Final

from ota.agent import mutual_tls
from ota.agent.feeds.iot_trouble import outage
from ota.agent.feeds.options import IotJobsOptions
from signing.errors import Outage

MQTT_ALPN: Final = "x-amzn-mqtt-ca"
HTTPS_ALPN: Final = "x-amzn-http-ca"
"""What tells AWS, on port 443, which protocol is meant and that a certificate will come (AWS IoT
developer guide, "Device communication protocols")."""


def context(options: IotJobsOptions, alpn: str = "") -> ssl.SSLContext:
    """A context that verifies the broker and shows the certificate; ``Outage`` names the file."""
    files = mutual_tls.Files(options.certificate, options.key, options.ca)
    made = mutual_tls.context(files, _fault)
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


def checked(name: str, path: str) -> str:
    """The same path, if it can be read; ``Outage`` names the file."""
    return mutual_tls.readable(name, path, _fault)


def _fault(words: str, path: str, remedy: str) -> Outage:
    return outage("feed-certificate", f"[feed] {words}", subject=path, remedy=remedy)
