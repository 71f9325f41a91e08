"""The gate as a table, and its two promises as properties."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.errors import Malformed
from ota.rollout.gate import Tally, Times, budget, decide, sample
from signing.plan import Gate, Wave

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
BAD = ("failed", "reverted", "refused", "stale", "unreachable", "silent")


def wave(soak: int = 0, deadline: int = 3600, **gate: Any) -> Wave:
    return Wave(name="canary", devices=(), soak=soak, deadline=deadline, gate=Gate(**gate))


def times(started: float | None = 60, settled: float | None = 0) -> Times:
    """Seconds ago."""
    ago = [None if s is None else NOW - timedelta(seconds=s) for s in (started, settled)]
    return Times(NOW, *ago)


@pytest.mark.parametrize(
    ("gate", "tally", "when", "kind", "code"),
    [
        ({}, {"committed": 10}, times(), "ADVANCE", "passed"),
        ({}, {"committed": 9, "pending": 1}, times(), "WAIT", "unsettled"),
        ({}, {"committed": 9, "in_progress": 1}, times(), "WAIT", "unsettled"),
        ({}, {"committed": 9, "waiting": 1}, times(), "WAIT", "unsettled"),
        ({}, {"committed": 9, "waiting": 1}, times(started=None), "WAIT", "unsettled"),
        ({}, {"committed": 9, "waiting": 1}, times(3600), "HOLD", "deadline"),
        ({}, {"committed": 9, "failed": 1}, times(), "ROLL_BACK", "failed"),
        ({}, {"committed": 9, "reverted": 1}, times(), "ROLL_BACK", "reverted"),
        ({}, {"committed": 9, "silent": 1}, times(), "ROLL_BACK", "silent"),
        ({}, {"waiting": 9, "reverted": 1}, times(), "ROLL_BACK", "reverted"),
        ({}, {"committed": 9, "refused": 1}, times(), "HOLD", "refused"),
        ({}, {"committed": 9, "stale": 1}, times(), "HOLD", "stale"),
        ({}, {"committed": 9, "unreachable": 1}, times(), "HOLD", "unreachable"),
        ({}, {"committed": 8, "refused": 1, "reverted": 1}, times(), "HOLD", "refused"),
        ({}, {"committed": 8, "stale": 1, "reverted": 1}, times(), "ROLL_BACK", "reverted"),
        ({"failed": 1}, {"committed": 9, "failed": 1}, times(), "ADVANCE", "passed"),
        ({"failed": "10%"}, {"committed": 9, "failed": 1}, times(), "ADVANCE", "passed"),
        ({"failed": "9%"}, {"committed": 9, "failed": 1}, times(), "ROLL_BACK", "failed"),
        ({"min_sample": 5, "failed": 9}, {"committed": 4, "failed": 6}, times(), "HOLD", "sample"),
        (
            {"min_sample": "41%", "failed": 9},
            {"committed": 4, "failed": 6},
            times(),
            "HOLD",
            "sample",
        ),
        (
            {"min_sample": "40%", "failed": 9},
            {"committed": 4, "failed": 6},
            times(),
            "ADVANCE",
            "passed",
        ),
        ({"min_sample": 99}, {"committed": 10}, times(), "ADVANCE", "passed"),
        ({"min_sample": 1}, {"left_out": 10}, times(), "HOLD", "sample"),
        ({"min_sample": 1}, {"accepted": 10}, times(), "ADVANCE", "passed"),
        ({"soak": 60}, {"committed": 10}, times(settled=None), "WAIT", "soak"),
        ({"soak": 60}, {"committed": 10}, times(settled=59), "WAIT", "soak"),
        ({"soak": 60}, {"committed": 10}, times(settled=60), "ADVANCE", "passed"),
        ({"soak": 60}, {"committed": 9, "reverted": 1}, times(settled=1), "ROLL_BACK", "reverted"),
    ],
)
def test_the_rules_in_order(
    gate: dict[str, Any], tally: dict[str, int], when: Times, kind: str, code: str
) -> None:
    """Each rule of the module's docstring, with the reason that a person reads."""
    found = decide(wave(**gate), Tally(size=10, **tally), when, "rollback", last=False)
    assert (found.kind, found.reasons[0].code) == (kind, code)
    assert found.reasons[0].text


def test_the_last_wave_completes() -> None:
    """COMPLETE instead of ADVANCE, by the same rules."""
    assert (
        decide(wave(), Tally(size=1, committed=1), times(), "rollback", last=True).kind
        == "COMPLETE"
    )


def test_an_empty_wave_passes() -> None:
    """``allow_empty`` waves need no sample."""
    assert decide(wave(), Tally(size=0), times(), "rollback", last=False).kind == "ADVANCE"


def test_on_failure_hold() -> None:
    """The plan decides whether failing devices take the release back from all."""
    found = decide(wave(), Tally(size=2, committed=1, reverted=1), times(), "hold", last=False)
    assert found.kind == "HOLD"


@pytest.mark.parametrize("share", ["5", "x%", "-1%", "101%", "%", "1.5%", -1, "５%"])
def test_budgets_that_are_none(share: int | str) -> None:
    """Neither a count nor whole percent: a named error, never a guess."""
    with pytest.raises(Malformed):
        budget(share, 10)


def test_rounding() -> None:
    """Budgets round down, the sample rounds up."""
    assert [budget("5%", n) for n in (10, 19, 20, 40)] == [0, 0, 1, 2]
    assert sample(Gate(min_sample="5%"), Tally(size=21)) == 2


@st.composite
def waves(draw: st.DrawFn) -> tuple[Wave, Tally, Times]:
    small = st.integers(0, 4)
    share = st.one_of(small, st.integers(0, 100).map(lambda p: f"{p}%"))
    gate = Gate(**{name: draw(share) for name in ("min_sample", *BAD)})
    names = ("waiting", "pending", "in_progress", "committed", "left_out", "accepted", *BAD)
    counts = {name: draw(small) for name in names}
    made = Wave(name="w", devices=(), soak=draw(small), deadline=draw(st.integers(1, 9)), gate=gate)
    when = times(draw(st.one_of(st.none(), small)), draw(st.one_of(st.none(), small)))
    return made, Tally(size=sum(counts.values()), **counts), when


@given(waves(), st.sampled_from(["rollback", "hold"]), st.booleans())
def test_never_forward_over_a_budget(case: Any, on_failure: Any, last: bool) -> None:
    """ADVANCE and COMPLETE only when each budget holds, nobody is open, the sample committed."""
    made, tally, when = case
    found = decide(made, tally, when, on_failure, last=last)
    assert found.reasons
    if found.kind in {"ADVANCE", "COMPLETE"}:
        assert all(getattr(tally, n) <= budget(getattr(made.gate, n), tally.size) for n in BAD)
        assert tally.unsettled == 0
        assert tally.committed >= sample(made.gate, tally)


@given(waves(), st.sampled_from(BAD), st.sampled_from(["rollback", "hold"]), st.booleans())
def test_more_failures_never_help(case: Any, worse: str, on_failure: Any, last: bool) -> None:
    """Turning a commit into a failure never turns a stop into a step forward."""
    made, tally, when = case
    if tally.committed == 0:
        return
    more = replace(tally, committed=tally.committed - 1, **{worse: getattr(tally, worse) + 1})
    before = decide(made, tally, when, on_failure, last=last).kind
    after = decide(made, more, when, on_failure, last=last).kind
    if before in {"HOLD", "ROLL_BACK"}:
        assert after in {"HOLD", "ROLL_BACK"}
    if before == "WAIT":
        assert after in {"WAIT", "HOLD", "ROLL_BACK"}


@given(waves(), st.booleans())
def test_refused_is_never_taken_back_automatically(case: Any, last: bool) -> None:
    """Evidence of tampering over its budget is for a human, whatever else failed."""
    made, tally, when = case
    if tally.refused > budget(made.gate.refused, tally.size):
        assert decide(made, tally, when, "rollback", last=last).kind == "HOLD"
