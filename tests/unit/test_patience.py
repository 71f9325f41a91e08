"""What is refused again and again is tried later and later, and never given up."""

from __future__ import annotations

import itertools

import pytest

from ota.agent.patience import Patience

ORDER = "ota-app-2-x7k2m9-u1-w0-b0"
SIX_HOURS = 6 * 3600.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pause(patience: Patience, clock: Clock) -> float:
    """Seconds until the order is tried again, to the nearest second."""
    since = clock.now
    while patience.too_soon(ORDER):
        clock.now += 1.0
    return clock.now - since


def test_each_refusal_waits_longer(clock: Clock) -> None:
    """Twice as long each time, and at most six hours."""
    patience, waited = Patience(clock), []
    for _ in range(12):
        patience.remember(ORDER, "refused")
        waited.append(pause(patience, clock))
    assert all(b == min(2 * a, SIX_HOURS) for a, b in itertools.pairwise(waited))
    assert waited[-1] == SIX_HOURS


def test_refused_at_every_hint_for_ever(clock: Clock) -> None:
    """Hints do not wait, so a hostile courier can have thousands of refusals: still six hours."""
    patience = Patience(clock)
    for _ in range(5000):
        patience.remember(ORDER, "refused")
    assert pause(patience, clock) == SIX_HOURS


@pytest.mark.parametrize("then", [(ORDER, "committed"), ("another", "refused")])
def test_what_comes_between_begins_anew(clock: Clock, then: tuple[str, str]) -> None:
    """Another ending, or another order, and the first one is not made to wait."""
    patience = Patience(clock)
    patience.remember(ORDER, "refused")
    first = pause(patience, clock)
    patience.remember(ORDER, "refused")
    patience.remember(*then)
    assert not patience.too_soon(ORDER)
    patience.remember(ORDER, "refused")
    assert pause(patience, clock) == first
