"""Endless data: a store that never stops sending, for every file that a device fetches."""

from __future__ import annotations

import pytest
from simulators.plant import Plant
from simulators.threats import FILES, TWO, before, files, news, ordered, served, threat
from simulators.webstore import Handler

from signing import layout, strict

LIMITS = {"read": 5.0, "metadata_total": 30.0, "image_total": 30.0}
BLOCK = bytes(1 << 16)


def forever(handler: Handler) -> None:
    """Zeros until the other side hangs up; no length is announced."""
    handler.send_response(200)
    handler.end_headers()
    handler.close_connection = True
    while True:
        handler.wfile.write(BLOCK)


def announced(handler: Handler) -> None:
    """A petabyte, so it says."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 50))
    handler.end_headers()
    handler.close_connection = True
    while True:
        handler.wfile.write(BLOCK)


def headers(handler: Handler) -> None:
    """Headers without end."""
    handler.send_response(200)
    handler.close_connection = True
    while True:
        handler.send_header("X-More", "x" * 1000)
        handler.flush_headers()


@pytest.mark.parametrize("what", FILES)
def test_endless_metadata(plant: Plant, what: str) -> None:
    """Nothing is read past its limit or its signed length, whatever length is announced."""
    with served(plant, **LIMITS) as web:
        news(plant)
        name = str(files(plant)[what].relative_to(plant.store))
        keeps = before(what)
        with threat(plant, "oversize", unseen=True, keeps=keeps, heal=web.calm) as gateway:
            web.behaviour = {name: forever}
            gateway.look()
            web.behaviour = {name: announced}


def test_endless_image(plant: Plant) -> None:
    """Never a byte beyond the signed length is kept; no disk is filled by a store."""
    with served(plant, **LIMITS) as web:
        ordered(plant)
        name = layout.image_target("app/app-2.0.0.bin", strict.digest(TWO))
        with threat(plant, "image-oversize", heal=web.calm) as gateway:
            web.behaviour = {name: forever}
            gateway.look()
            kept = sum(p.stat().st_size for p in gateway.home.rglob("*") if p.is_file())
            assert kept < 5 << 20
            web.behaviour = {name: announced}


def test_endless_headers(plant: Plant) -> None:
    """An answer that never begins is an outage, and accuses nobody."""
    with served(plant, **LIMITS) as web:
        ordered(plant)
        name = str(files(plant)["director timestamp"].relative_to(plant.store))
        with threat(plant, "outage", event="outage", unseen=True, heal=web.calm):
            web.behaviour = {name: headers}
