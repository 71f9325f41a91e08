"""The port ``Fleet`` and its registry on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from simulators.identities import START, Identity, running, slot, update

from ota.errors import Busy, Malformed, Misuse, NotFound, NotPermitted, Refusal
from ota.fleet import enrol, recording, tables
from ota.fleet.allow import AllowList
from ota.fleet.entries import Entry
from ota.fleet.recording import MAX_EVIDENCE, MAX_HELD
from ota.fleet.registry import Registry
from signing import statement, strict

ROOT = Path(__file__).parents[2]


@pytest.fixture
def dev(registry: Registry) -> Identity:
    """A registered device."""
    identity = Identity("dev-1")
    registry.register(identity.enrol(), None, {"site": "lyon"}, "spool", START)
    return identity


def refused(registry: Registry, envelope: bytes) -> str:
    """The code under which it is refused."""
    with pytest.raises(Refusal) as caught:
        registry.record(envelope, START)
    return caught.value.code


# -- registering -------------------------------------------------------------------------------
def test_a_registered_device_is_read_back_whole(registry: Registry, dev: Identity) -> None:
    """Key, labels, courier and signed components come back as they went in."""
    found = registry.device("dev-1")
    assert found.key == dev.signer.public_key
    assert (found.state, found.state_id, found.counter) == ("active", "state-1", 0)
    assert (found.courier, dict(found.labels)) == ("spool", {"site": "lyon"})
    assert found.components == {"app": running("app-1")}
    assert (found.last_seen, found.held_state_id) == (None, "")


def test_registering_twice_changes_nothing(registry: Registry, dev: Identity) -> None:
    """The same key again is idempotent: even other labels are not taken over."""
    assert registry.register(dev.enrol(), None, {"site": "x"}, "ssh", START) == (
        "dev-1",
        "unchanged",
    )
    assert registry.device("dev-1").labels == {"site": "lyon"}


def test_a_key_is_never_replaced_by_registering(registry: Registry, dev: Identity) -> None:
    """Another key for a known id is not permitted, and names the command that is."""
    thief = Identity("dev-1")
    with pytest.raises(NotPermitted) as caught:
        registry.register(thief.enrol(), None, {}, "", START)
    assert (caught.value.code, caught.value.exit_code) == ("key-differs", 4)
    assert "ota fleet replace" in caught.value.remedy
    assert registry.device("dev-1").key == dev.signer.public_key


def test_one_key_serves_one_device(registry: Registry, dev: Identity) -> None:
    """A cloned identity under another id is not permitted, by register or by replace."""
    other = Identity("dev-2")
    registry.register(other.enrol(), None, {}, "", START)
    clone = Identity("dev-3")
    clone.signer = dev.signer
    with pytest.raises(NotPermitted, match="is the key of dev-1"):
        registry.register(clone.enrol(), None, {}, "", START)
    other.signer = dev.signer
    with pytest.raises(NotPermitted, match="is the key of dev-1"):
        registry.replace(other.enrol())
    assert [d.id for d in registry.devices()] == ["dev-1", "dev-2"]


def test_only_allowed_devices_join(registry: Registry) -> None:
    """The allow-list decides by id and fingerprint, and brings labels and courier."""
    one, two, three = (Identity(f"dev-{n}") for n in (1, 2, 3))
    allow = AllowList(
        [
            Entry("dev-1", key=one.keyid, courier="spool", labels={"site": "lyon", "old": None}),
            Entry("dev-2", key="0" * 64),
        ]
    )
    enrolments = [i.enrol() for i in (one, two, three)]
    results = registry.register_all([*enrolments, b"{}"], allow, {"line": "a"}, "", START)
    assert results[0] == ("dev-1", "registered")
    assert [getattr(r, "code", "") for r in results[1:]] == [
        "not-allowed",
        "not-allowed",
        "statement-malformed",
    ]
    assert [d.id for d in registry.devices()] == ["dev-1"]
    found = registry.device("dev-1")
    assert (found.courier, dict(found.labels)) == ("spool", {"site": "lyon", "line": "a"})


def test_an_enrolment_signed_by_another_key_is_refused(registry: Registry) -> None:
    """Possession of the key must be shown."""
    device, other = Identity("dev-1"), Identity("dev-1")
    forged = statement.sign(
        "enrolment", statement.peek("enrolment", device.enrol()).body, other.signer
    )
    with pytest.raises(Refusal) as caught:
        registry.register(forged, None, {}, "", START)
    assert caught.value.code == "statement-signature"
    assert list(registry.devices()) == []


def test_replace_takes_a_new_key_and_closes_the_old_one(registry: Registry, dev: Identity) -> None:
    """After a person's replace the old key's reports are refused; labels stay."""
    registry.record(dev.report(5), START)
    renewed = Identity("dev-1", "state-2")
    assert registry.replace(renewed.enrol()) == "dev-1"
    assert refused(registry, dev.report(6)) == "statement-signature"
    assert registry.record(renewed.report(1), START).status == "accepted"
    found = registry.device("dev-1")
    assert (found.key, found.labels) == (renewed.signer.public_key, {"site": "lyon"})
    assert (found.state_id, found.counter) == ("state-2", 1)


def test_replace_with_an_old_enrolment_is_not_permitted(registry: Registry, dev: Identity) -> None:
    """An enrolment of a former incarnation would let its reports be replayed."""
    old = dev.enrol()
    registry.record(dev.report(5), START)
    assert registry.replace(old) == "dev-1"
    assert registry.device("dev-1").counter == 5  # same incarnation: it goes on, never back to 0
    registry.replace(Identity("dev-1", "state-2").enrol())
    with pytest.raises(NotPermitted) as caught:
        registry.replace(old)
    assert caught.value.code == "enrolment-old"


def test_replace_needs_a_registered_device(registry: Registry) -> None:
    """An unknown id is for ``register``."""
    with pytest.raises(NotFound, match="not registered"):
        registry.replace(Identity("dev-9").enrol())


def test_a_retired_device_is_out_until_replaced(registry: Registry, dev: Identity) -> None:
    """No reports, no registering again; a person's replace brings it back."""
    registry.retire("dev-1", START)
    assert refused(registry, dev.report(1)) == "report-retired-device"
    with pytest.raises(NotPermitted, match="retired"):
        registry.register(dev.enrol(), None, {}, "", START)
    assert [d.id for d in registry.devices("state=retired")] == ["dev-1"]
    registry.retire("dev-1", START + timedelta(days=1))
    (end,) = registry.retirements("dev-1")
    assert (end.since, end.receipt, end.keyid) == (START, None, dev.keyid)
    registry.replace(dev.enrol())
    assert registry.device("dev-1").state == "active"


# -- reports, rule 13 --------------------------------------------------------------------------
def test_a_report_is_stored_exactly_and_counted(registry: Registry, dev: Identity) -> None:
    """Bytes, components, counter, last_seen and the rollout's standing are all there."""
    data = dev.report(1, components={"app": running("app-2")}, update=update())
    later = START + timedelta(seconds=90)
    assert registry.record(data, later).status == "accepted"
    found = registry.device("dev-1")
    assert (found.counter, found.last_seen) == (1, later)
    assert found.components == {"app": running("app-2")}
    assert [s.envelope for s in registry.history("dev-1")] == [data]
    assert registry.latest("app-2-x7k2m9")["dev-1"].update == update()
    assert registry.latest("other-x7k2m9") == {}


def test_a_duplicate_is_the_same_payload_whatever_the_signature(
    registry: Registry, dev: Identity
) -> None:
    """Couriers deliver twice and out of order; ECDSA signs one payload in many ways."""
    body = dev.body(1)
    first, again = dev.report(1), dev.report(1)
    assert first != again
    assert registry.record(first, START).status == "accepted"
    registry.record(dev.report(2), START)
    assert registry.record(again, START).status == "duplicate"
    assert registry.record(first, START).report == body
    assert registry.device("dev-1").counter == 2
    assert len(registry.history("dev-1")) == 2


def test_equivocation_keeps_both_bytes(registry: Registry, dev: Identity) -> None:
    """One counter with two payloads is refused; what counted before still counts."""
    first, second = dev.report(1), dev.report(1, detail="another story")
    registry.record(first, START)
    for _ in range(2):
        assert refused(registry, second) == "report-equivocation"
    assert registry.evidence("dev-1") == [("report-equivocation", second)]
    assert [s.envelope for s in registry.history("dev-1")] == [first]
    assert registry.device("dev-1").counter == 1


def test_evidence_is_bounded(registry: Registry, dev: Identity) -> None:
    """A device that lies all day fills no disk."""
    registry.record(dev.report(1), START)
    lies = [dev.report(1, detail=str(n)) for n in range(MAX_EVIDENCE + 3)]
    verdicts = registry.record_all(lies, START)
    assert {v.code for v in verdicts if isinstance(v, Refusal)} == {"report-equivocation"}
    assert len(registry.evidence("dev-1")) == MAX_EVIDENCE


def test_a_lower_counter_is_a_replay(registry: Registry, dev: Identity) -> None:
    """A counter that does not rise, and was never seen, is refused and changes nothing."""
    registry.record(dev.report(5), START)
    before = registry.device("dev-1")
    assert refused(registry, dev.report(4, components={})) == "report-replayed"
    assert registry.device("dev-1") == before


def test_reports_never_register(registry: Registry) -> None:
    """A report of an unknown device is refused and leaves nothing behind."""
    assert refused(registry, Identity("dev-9").report(1)) == "report-unknown-device"
    assert list(registry.devices()) == []


def test_another_devices_key_does_not_speak_for_this_one(registry: Registry, dev: Identity) -> None:
    """Signed by a registered neighbour: named as such. By a stranger: a bad signature."""
    neighbour, stranger = Identity("dev-2"), Identity("dev-3")
    registry.register(neighbour.enrol(), None, {}, "", START)
    with pytest.raises(Refusal, match="'dev-2'") as caught:
        registry.record(neighbour.report(1, device="dev-1"), START)
    assert (caught.value.code, caught.value.subject) == ("report-wrong-device", "dev-2")
    assert refused(registry, stranger.report(1, device="dev-1")) == "statement-signature"
    assert registry.history("dev-1") == []


def test_a_new_incarnation_is_held_until_accepted(registry: Registry, dev: Identity) -> None:
    """A restored device's reports are stored and do not count; after accept they do."""
    registry.record(dev.report(7, update=update(outcome="in_progress")), START)
    dev.state_id = "state-2"
    held = dev.report(1, components={"app": running("app-0")}, update=update())
    assert registry.record(held, START).status == "held"
    assert registry.record(held, START).status == "duplicate"
    found = registry.device("dev-1")
    assert (found.state, found.held_state_id) == ("restored", "state-2")
    assert (found.state_id, found.counter) == ("state-1", 7)
    assert found.components == {"app": running("app-1")}
    assert registry.latest("app-2-x7k2m9")["dev-1"].counter == 7

    accepted = registry.accept("dev-1", "state-2")
    assert (accepted.state, accepted.state_id, accepted.counter) == ("active", "state-2", 1)
    assert accepted.components == {"app": running("app-0")}
    assert registry.latest("app-2-x7k2m9")["dev-1"].state_id == "state-2"
    dev.state_id = "state-1"
    assert refused(registry, dev.report(8)) == "report-replayed"


def test_the_old_incarnation_counts_until_the_new_is_accepted(
    registry: Registry, dev: Identity
) -> None:
    """Two machines with one key: the known one counts, and the device stays restored."""
    registry.record(dev.report(1), START)
    twin = Identity("dev-1", "state-2")
    twin.signer = dev.signer
    registry.record(twin.report(1), START)
    assert registry.record(dev.report(2), START).status == "accepted"
    assert registry.device("dev-1").state == "restored"


def test_held_reports_have_the_same_counter_rules(registry: Registry, dev: Identity) -> None:
    """Equivocation and replay are seen in a held incarnation too."""
    dev.state_id = "state-2"
    registry.record(dev.report(3), START)
    assert refused(registry, dev.report(2)) == "report-replayed"
    assert refused(registry, dev.report(3, detail="x")) == "report-equivocation"


def test_incarnations_are_bounded(registry: Registry, dev: Identity) -> None:
    """More unaccepted incarnations than a person would look at are refused."""
    for n in range(MAX_HELD):
        dev.state_id = f"new-{n}"
        registry.record(dev.report(1), START)
    dev.state_id = "new-x"
    assert refused(registry, dev.report(1)) == "report-incarnations"


def test_accept_takes_only_what_is_held(registry: Registry, dev: Identity) -> None:
    """Nothing held, or another incarnation than the one looked at: misuse, nothing changed."""
    with pytest.raises(Misuse, match="nothing is held"):
        registry.accept("dev-1")
    dev.state_id = "state-2"
    registry.record(dev.report(1), START)
    with pytest.raises(Misuse, match="'state-2' is held"):
        registry.accept("dev-1", "state-3")
    assert registry.device("dev-1").state == "restored"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"counter": 0}, "zero"),
        ({"counter": 2**63}, "beyond 64 bits"),
        ({"device": 7}, "not text"),
        ({"device": "../dev-1"}, "a path"),
        ({"time": "yesterday"}, "no time"),
        ({"components": {"a/b": {"hardware_id": "x", "floor": 0}}}, "a bad component"),
        ({"components": {"app": {"hardware_id": "x y", "floor": 0}}}, "bad hardware"),
        ({"schema": 2}, "another schema"),
        ({"update": {"order": "x"}}, "half an update"),
    ],
)
def test_malformed_signed_reports_are_refused(
    registry: Registry, dev: Identity, change: dict[str, object], why: str
) -> None:
    """Signed nonsense is a named refusal; nothing is stored."""
    body = statement.peek("report", dev.report(1)).body | change
    assert refused(registry, dev.sign(body)) == "statement-malformed", why
    assert registry.history("dev-1") == []


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "line\nline", "\u2028", "\U0001f600", "\x7f"])
def test_strange_text_harms_nobody_else(registry: Registry, dev: Identity, text: str) -> None:
    """A device's text is stored or refused; it never stops the reading of a whole rollout."""
    honest = Identity("dev-2")
    registry.register(honest.enrol(), None, {}, "", START)
    odd = slot("app-1")
    state = running("app-1")
    state = type(state)(
        hardware_id=state.hardware_id,
        floor=0,
        current=type(odd)(sha256=odd.sha256, length=1, version=text),
    )
    liar = dev.report(1, update=update(), components={"app": state}, detail=text)
    verdicts = registry.record_all([liar, honest.report(1, update=update())], START)
    codes = [getattr(v, "status", getattr(v, "code", "")) for v in verdicts]
    assert codes == ["statement-malformed" if text == "\ud800" else "accepted", "accepted"]
    assert "dev-2" in registry.latest("app-2-x7k2m9")
    assert [d.id for d in registry.devices()] == ["dev-1", "dev-2"]
    if codes[0] == "accepted":
        assert registry.latest("app-2-x7k2m9")["dev-1"].detail == text


def test_strange_text_in_an_enrolment_is_refused(registry: Registry) -> None:
    """What the registry could not store does not enter it."""
    odd = type(slot("x"))(sha256="a" * 64, length=1, version="\ud800")
    state = type(running())(hardware_id="x", floor=0, current=odd)
    results = registry.register_all(
        [Identity("dev-1").enrol({"app": state}), Identity("dev-2").enrol()], None, {}, "", START
    )
    assert getattr(results[0], "code", "") == "statement-malformed"
    assert results[1] == ("dev-2", "registered")


def test_text_outside_the_components_counts_too(registry: Registry, dev: Identity) -> None:
    """A report that could not be read back is refused now, not when a gate needs it."""
    assert refused(registry, dev.report(1, update=update(), detail="\ud800")) == (
        "statement-malformed"
    )
    assert registry.latest("app-2-x7k2m9") == {}


def test_recording_waits_for_the_device(
    registry: Registry, dev: Identity, database_url: str
) -> None:
    """While one process records a device's report, another one waits, and then sees it."""
    other = Registry(database_url)
    results: list[str] = []
    with tables.writing(registry.engine) as conn:
        recording.record(conn, dev.report(1), START)
        again = dev.report(1)
        thread = threading.Thread(target=lambda: results.append(other.record(again, START).status))
        thread.start()
        thread.join(0.5)
        assert results == []
    thread.join(30)
    other.close()
    assert results == ["duplicate"]


def test_registering_at_once_registers_once(registry: Registry, database_url: str) -> None:
    """Two operators, one device: the second sees it unchanged, or is told to try again."""
    device = Identity("dev-1")
    other = Registry(database_url)
    results: list[object] = []

    def second() -> None:
        try:
            results.append(other.register(device.enrol(), None, {}, "", START)[1])
        except Busy as busy:
            results.append(busy.code)

    with tables.writing(registry.engine) as conn:
        enrol.register(conn, device.enrol(), None, labels={}, courier="", now=START)
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.5)  # it waits for this transaction, on either engine
        assert results == []
    thread.join(30)
    other.close()
    assert results in (["unchanged"], ["busy"])
    assert [d.id for d in registry.devices()] == ["dev-1"]


@pytest.mark.parametrize("changes", [{"rollout": "r" * 200}, {"order": "o" * 200}])
def test_overlong_names_in_an_update_are_refused(
    registry: Registry, dev: Identity, changes: dict[str, str]
) -> None:
    """They fit no column; they are refused before the database sees them."""
    assert refused(registry, dev.report(1, update=update(**changes))) == "statement-malformed"


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 10_000, b"x" * 200_000])
def test_noise_is_refused(registry: Registry, data: bytes) -> None:
    """Bytes that are no envelope are a named refusal."""
    assert refused(registry, data) == "statement-malformed"


def test_many_reports_are_judged_one_by_one(registry: Registry, dev: Identity) -> None:
    """One transaction, answers in order, a bad one spoils no other."""
    other = Identity("dev-0")
    registry.register(other.enrol(), None, {}, "", START)
    batch = [dev.report(1), b"noise", other.report(1), dev.report(2), dev.report(1)]
    verdicts = registry.record_all(batch, START)
    assert [getattr(v, "status", getattr(v, "code", "")) for v in verdicts] == [
        "accepted",
        "statement-malformed",
        "accepted",
        "accepted",
        "duplicate",
    ]


def test_latest_is_the_newest_word_about_a_rollout(registry: Registry, dev: Identity) -> None:
    """A later inventory does not hide the outcome; a later outcome replaces it."""
    registry.record(dev.report(1, update=update(outcome="in_progress")), START)
    registry.record(dev.report(2), START)
    registry.record(dev.report(3, update=update(outcome="reverted")), START)
    registry.record(dev.report(4, update=update("next-x7k2m9")), START)
    assert registry.latest("app-2-x7k2m9")["dev-1"].counter == 3
    assert registry.latest("next-x7k2m9")["dev-1"].counter == 4


# -- labels and lists --------------------------------------------------------------------------
def test_selectors_choose_devices(registry: Registry, dev: Identity) -> None:
    """Labels and the pseudo-keys choose; the order is by id, byte by byte."""
    for name in ("dev-2", "Dev-3", "dev_0", "dev-10"):
        registry.register(Identity(name).enrol(), None, {"site": "paris"}, "", START)
    everyone = [d.id for d in registry.devices()]
    assert everyone == ["Dev-3", "dev-1", "dev-10", "dev-2", "dev_0"]
    assert [d.id for d in registry.devices("site=lyon")] == ["dev-1"]
    assert [d.id for d in registry.devices("id in (dev-2,dev_0),state=active")] == [
        "dev-2",
        "dev_0",
    ]
    assert [d.id for d in registry.devices("courier=spool")] == ["dev-1"]
    with pytest.raises(Malformed, match="column 6"):
        registry.devices("site=(")


def test_pages_do_not_lose_devices(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every device is read exactly once, whatever the page size."""
    names = [f"dev-{n}" for n in range(7)]
    registry.register_all([Identity(n).enrol() for n in names], None, {}, "", START)
    for size in (1, 2, 7, 8):
        monkeypatch.setattr("ota.fleet.registry._PAGE", size)
        assert [d.id for d in registry.devices()] == names


def test_labels_are_set_and_removed(registry: Registry, dev: Identity) -> None:
    """None removes; a bad key or value changes nothing."""
    registry.label("dev-1", {"site": None, "line": "a"})
    assert registry.device("dev-1").labels == {"line": "a"}
    for bad in ({"state": "x"}, {"line": "a b"}, {"-": "x"}):
        with pytest.raises(Malformed):
            registry.label("dev-1", bad)
    assert registry.device("dev-1").labels == {"line": "a"}


def test_an_import_is_all_or_nothing(registry: Registry, dev: Identity) -> None:
    """A row about an unknown device, or with another key, undoes the rows before it."""
    good = Entry("dev-1", key=dev.keyid, courier="ssh", labels={"site": "paris"}, where="f.csv:2")
    for bad in (Entry("zzz", where="f.csv:3"), Entry("dev-1", key="0" * 64, where="f.csv:3")):
        with pytest.raises(Misuse, match=r"f\.csv:3"):
            registry.update([good, bad])
        assert registry.device("dev-1").labels == {"site": "lyon"}
    assert registry.update([good]) == 1
    found = registry.device("dev-1")
    assert (found.labels, found.courier) == ({"site": "paris"}, "ssh")


@pytest.mark.parametrize("call", ["device", "retire", "accept", "history"])
def test_an_unknown_device_is_named(registry: Registry, call: str) -> None:
    """Each method names the device and the next command."""
    with pytest.raises(NotFound, match="dev-9") as caught:
        getattr(registry, call)(*(("dev-9", START) if call == "retire" else ("dev-9",)))
    assert caught.value.remedy == "ota fleet list"


# -- two processes -----------------------------------------------------------------------------
_RECORDER = """
import sys, pathlib
from datetime import datetime, UTC
from ota.fleet.registry import Registry
registry = Registry(sys.argv[1])
for file in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    registry.record(file.read_bytes(), datetime(2026, 11, 23, 8, tzinfo=UTC))
"""


def test_two_processes_lose_nothing(registry: Registry, database_url: str, tmp_path: Path) -> None:
    """Two recorders at once, the same devices: every report is stored, every counter right."""
    devices = [Identity(f"dev-{n}") for n in range(4)]
    for device in devices:
        registry.register(device.enrol(), None, {}, "", START)
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        for device in devices:  # each folder is its own incarnation: none is a replay
            device.state_id = "state-1" if folder.name == "a" else "state-2"
            for n in range(1, 11):
                name = f"{n:02}-{device.device}"
                (folder / name).write_bytes(device.report(n, update=update(f"{folder.name}-r")))
    processes = [
        subprocess.Popen([sys.executable, "-c", _RECORDER, database_url, str(folder)], cwd=ROOT)
        for folder in folders
    ]
    assert [p.wait(60) for p in processes] == [0, 0]
    for device in devices:
        stored = registry.history(device.device)
        assert sorted((s.report.state_id, s.report.counter) for s in stored) == [
            (state, n) for state in ("state-1", "state-2") for n in range(1, 11)
        ]
        assert registry.device(device.device).counter == 10
    assert {r.counter for r in registry.latest("a-r").values()} == {10}
    assert len(registry.latest("a-r")) == 4


def test_two_processes_with_one_report_store_it_once(
    registry: Registry, dev: Identity, database_url: str, tmp_path: Path
) -> None:
    """The same spool read twice at once: one accepts, the other sees duplicates."""
    for n in range(1, 21):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{n:02}").write_bytes(dev.report(n))
    command = [sys.executable, "-c", _RECORDER, database_url, str(tmp_path / "in")]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [p.wait(60) for p in processes] == [0, 0]
    counters = [s.report.counter for s in registry.history("dev-1")]
    assert counters == list(range(20, 0, -1))


def test_opening_at_once_creates_the_tables_once(database_url: str) -> None:
    """Two processes meet an empty database: both end with a working registry."""
    script = "import sys; from ota.fleet.registry import Registry; Registry(sys.argv[1])"
    command = [sys.executable, "-c", script, database_url]
    processes = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    assert [p.wait(60) for p in processes] == [0, 0, 0]
    assert list(Registry(database_url).devices()) == []


def test_a_damaged_row_is_named(registry: Registry, dev: Identity) -> None:
    """A registry edited by hand is a named error, not a traceback."""
    with registry.engine.begin() as conn:
        conn.exec_driver_sql("UPDATE devices SET labels = '[1' WHERE id = 'dev-1'")
    with pytest.raises(Malformed, match="'dev-1' is damaged"):
        registry.device("dev-1")


def test_a_stored_key_must_be_the_digest_of_itself(registry: Registry, dev: Identity) -> None:
    """A key swapped under a kept id in the database does not verify reports."""
    other = Identity("dev-1")
    with registry.engine.begin() as conn:
        text = conn.exec_driver_sql("SELECT key FROM devices").scalar_one()
        swapped = text.replace(dev.signer.public_key.keyval["public"].replace("\n", "\\n"), "")
        assert swapped != text
        swapped = swapped.replace('"public":""', f'"public":"{_escaped(other)}"')
        conn.exec_driver_sql("UPDATE devices SET key = %s" % _quoted(swapped))  # noqa: UP031, S608 - driver-neutral
    with pytest.raises(Malformed, match="not the digest"):
        registry.record(other.report(1), START)


def _escaped(identity: Identity) -> str:
    return str(identity.signer.public_key.keyval["public"]).replace("\n", "\\n")


def _quoted(text: str) -> str:
    assert strict.loads(text.encode(), limit=10_000)
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"
