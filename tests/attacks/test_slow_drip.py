"""Slow drip: a store that sends a byte now and then, so that no single read ever times out."""

from __future__ import annotations

import time

import pytest
from simulators.plant import Plant
from simulators.threats import TWO, before, files, news, ordered, served, threat
from simulators.webstore import Handler

from signing import layout, strict

LIMITS = {"read": 5.0, "window": 0.2, "metadata_total": 0.3, "image_total": 20.0}


def drip(handler: Handler) -> None:
    """The right bytes, one at a time."""
    data = handler.server.objects.get(handler.path.lstrip("/"))
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    for byte in data:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.1)


def drip_headers(handler: Handler) -> None:
    """A status line, one byte at a time, without end."""
    while True:
        handler.wfile.write(b"H")
        time.sleep(0.1)


@pytest.mark.parametrize("what", ["director root", "image timestamp"])
def test_dripping_metadata(plant: Plant, what: str) -> None:
    """Each request has an end of its own, counted from its beginning."""
    with served(plant, **LIMITS) as web:
        news(plant)
        name = str(files(plant)[what].relative_to(plant.store))
        keeps = before(what)
        with threat(
            plant, "slow", event="outage", unseen=True, keeps=keeps, heal=web.calm
        ) as gateway:
            web.behaviour = {name: drip_headers}
            gateway.look()
            web.behaviour = {name: drip_headers if what.endswith("root") else drip}


def test_dripping_image(plant: Plant) -> None:
    """Slower than the least rate over a window is an outage; what has arrived is no update."""
    with served(plant, minimum_rate=100_000, **LIMITS) as web:
        ordered(plant)
        name = layout.image_target("app/app-2.0.0.bin", strict.digest(TWO))
        with threat(plant, "slow", event="progress", heal=web.calm):
            web.behaviour = {name: drip}
