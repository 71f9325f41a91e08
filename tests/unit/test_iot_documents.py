"""Orders as jobs: what AWS takes, names in its catalogue, and how fast it is asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulators.identities import START

from ota.aws.pacing import Bucket
from ota.couriers import iot_documents as documents
from ota.couriers.iot_documents import Options
from ota.errors import Malformed
from ota.ports import Order
from ota.ports_aws import package_name
from ota.settings import settings
from ota.wiring.couriers import couriers
from signing import strict

VERSIONS = st.from_regex(strict.VERSION, fullmatch=True)


def minutes(deadline: int) -> int:
    """What a job with this deadline gives each execution."""
    order = Order("ota-x", "x", ("d",), START, deadline=deadline)
    words = documents.request(order, ["arn"], Options("q"))
    return int(words["timeoutConfig"]["inProgressTimeoutInMinutes"])


@pytest.mark.parametrize(
    ("deadline", "expected"),
    [(0, 10_080), (1, 1), (60, 1), (61, 2), (3600, 60), (10_080 * 60, 10_080), (10**9, 10_080)],
)
def test_an_execution_gets_the_deadline_of_its_wave(deadline: int, expected: int) -> None:
    """In whole minutes, rounded up, within AWS's one and 10,080."""
    assert minutes(deadline) == expected


@given(VERSIONS)
def test_versions_fit_the_catalogue(version: str) -> None:
    """Its alphabet is narrower, and a name has at most 64 characters."""
    assert re.fullmatch(r"[a-zA-Z0-9._-]{1,64}", documents.package_version(version))


@given(VERSIONS, VERSIONS)
def test_two_versions_never_share_a_name(one: str, other: str) -> None:
    """Nor do they when one spells the other's escapes."""
    if one != other:
        assert documents.package_version(one) != documents.package_version(other)


def test_names_in_the_catalogue() -> None:
    """Ordinary ones stay as they are."""
    assert documents.package_version("2.0.0-rc.1") == "2.0.0-rc.1"
    assert documents.package_version("2_p") == "2__p"
    assert documents.package_version("2+") == "2_p"
    assert documents.package_version("1~2:3") == "1_t2_c3"
    assert package_name("mcu:left") == "mcu_cleft"
    long = documents.package_version("+" * 33 + "a" * 31)
    assert len(long) == 64
    assert re.fullmatch(r"(_p)+_h[0-9a-f]{16}", long)


# -- pace ----------------------------------------------------------------------------------------
class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def took(bucket: Bucket, clock: Clock, calls: int) -> float:
    began = clock.now
    for _ in range(calls):
        bucket.take()
    return clock.now - began


def test_a_bucket_lets_through_what_it_is_set_to() -> None:
    """A second's worth at once, then one by one; what was not used is not saved up."""
    clock = Clock()
    bucket = Bucket(10, clock, clock.sleep)
    assert took(bucket, clock, 10) == 0
    assert took(bucket, clock, 50) == pytest.approx(5)
    clock.now += 1000
    assert took(bucket, clock, 110) == pytest.approx(10)


def test_a_throttled_bucket_slows_down_and_recovers() -> None:
    """Half each time, never below a tenth; success by success back to where it was."""
    clock = Clock()
    bucket = Bucket(10, clock, clock.sleep)
    rates = []
    for _ in range(6):
        bucket.slow()
        rates.append(bucket.rate)
    assert rates == [5, 2.5, 1.25, 1, 1, 1]
    assert took(bucket, clock, 5) == pytest.approx(5)
    for _ in range(200):
        bucket.easy()
    assert bucket.rate == 10


def test_less_than_one_a_second() -> None:
    """A slow API is asked slowly."""
    clock = Clock()
    assert took(Bucket(0.5, clock, clock.sleep), clock, 4) == pytest.approx(6)


# -- ota.toml ------------------------------------------------------------------------------------
QUEUE = 'queue = "https://sqs.eu-west-1.amazonaws.com/111122223333/ota-reports"\n'


def loaded(folder: Path, table: str) -> settings.Settings:
    (folder / "ota.toml").write_text(f"[couriers.iot-jobs]\n{table}")
    return settings.load(folder, {})


def test_a_queue_is_all_that_is_needed(tmp_path: Path) -> None:
    """The rest has defaults; AWS's own abort is off; the spool is not used unless it is named."""
    told = loaded(tmp_path, QUEUE).iot_jobs
    assert told is not None
    assert (told.per_minute, told.retries, told.wait, told.packages) == (1000, 1, 2, False)
    assert told.unsafe_abort_percent == 0
    found = couriers(loaded(tmp_path, QUEUE), lambda: pytest.fail("not opened"), lambda: START)
    assert list(found) == ["iot-jobs"]
    assert not (tmp_path / "state").exists(), "nothing is made before it is needed"


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("", "queue"),
        (QUEUE + 'key = "AKIA"', "key"),
        (QUEUE + "per_minute = 1001", "per_minute"),
        (QUEUE + "retries = 11", "retries"),
        (QUEUE + "wait = 21", "wait"),
        (QUEUE + 'account = "12"', "account"),
        (QUEUE + 'group_prefix = "a/b"', "group_prefix"),
        (QUEUE + "unsafe_abort_percent = 101", "unsafe_abort_percent"),
        (QUEUE + "rates = {CreateJob = 0}", "rates"),
        ('queue = "ota-reports"', "queue"),
    ],
)
def test_what_can_not_work_names_its_key(tmp_path: Path, line: str, where: str) -> None:
    """Unknown keys, and values that AWS would refuse."""
    with pytest.raises(Malformed) as caught:
        loaded(tmp_path, line)
    assert where in str(caught.value)


def test_an_operation_that_is_not_used_has_no_rate(tmp_path: Path) -> None:
    """Told when the courier is made."""
    with pytest.raises(Malformed, match="CreateJobs"):
        couriers(
            loaded(tmp_path, QUEUE + "rates = {CreateJobs = 1}"),
            lambda: pytest.fail("not opened"),
            lambda: START,
        )


def test_things_named_by_a_label(tmp_path: Path) -> None:
    """From the registry; a device that is not there, or has no such label, has none."""
    from ota.fleet.registry import Registry  # noqa: PLC0415 - only here
    from tests.simulators.identities import Identity, running  # noqa: PLC0415 - the same

    registry = Registry("sqlite://")
    for name, labels in (("d1", {"thing": "gw-1"}), ("d2", {})):
        enrolled = Identity(name).enrol({"app": running()})
        registry.register(enrolled, None, labels, "iot-jobs", START)
    told = loaded(tmp_path, QUEUE + 'thing_label = "thing"')
    found = couriers(told, lambda: registry, lambda: START)["iot-jobs"]
    named = found._targets.named(("d1", "d2", "d3"))  # type: ignore[attr-defined] # its own part
    assert named[0] == {"d1": "gw-1"}
    assert set(named[1]) == {"d2", "d3"}
    registry.close()
