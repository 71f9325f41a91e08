"""``ota-agent tuf`` on repositories that were made by python-tuf alone, over real HTTP."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from simulators.grounds import roomy
from simulators.repos import Repo
from simulators.webstore import WebStore, webstore
from tuf.api.metadata import Metadata, TargetFile
from tuf.ngclient import Updater, UpdaterConfig

from ota.agent.main import main

TOP = ("root", "timestamp", "snapshot", "targets")


@dataclass
class Bench:
    """A repository, served; and one trust folder."""

    store: WebStore
    folder: Path
    repo: Repo = field(default_factory=lambda: Repo(now=datetime.now(UTC).replace(microsecond=0)))

    def serve(self) -> None:
        """Put the repository's files into the store."""
        for name, data in self.repo.files.items():
            self.store.objects[f"metadata/{name}"] = data

    def publish(self) -> None:
        self.repo.publish()
        self.serve()

    def target(self, path: str, data: bytes, role: str = "targets") -> None:
        """List a target and serve its bytes under the consistent name."""
        digest = hashlib.sha256(data).hexdigest()
        listed = self.repo.targets if role == "targets" else self.repo.delegated[role]
        listed.targets[path] = TargetFile(len(data), {"sha256": digest}, path)
        head, slash, tail = path.rpartition("/")
        self.store.objects[f"targets/{head}{slash}{digest}.{tail}"] = data
        self.publish()

    def init(self) -> int:
        root = self.folder.parent / "first.json"
        root.write_bytes(self.repo.files["1.root.json"])
        return main(["tuf", "--metadata-dir", str(self.folder), "init", str(root)])

    def tuf(self, *words: str) -> int:
        url = ["--metadata-url", f"{self.store.url}/metadata/"]
        return main(["tuf", *url, "--metadata-dir", str(self.folder), *words])

    def download(self, *names: str) -> int:
        words = [w for name in names for w in ("--target-name", name)]
        base = ["--target-base-url", f"{self.store.url}/targets"]
        return self.tuf("download", *words, *base, "--target-dir", str(self.targets))

    @property
    def targets(self) -> Path:
        return self.folder.parent / "targets"

    def downloaded(self) -> dict[str, bytes]:
        found = self.targets.iterdir() if self.targets.exists() else ()
        return {p.name: p.read_bytes() for p in found}

    def versions(self) -> dict[str, int]:
        """Trusted versions by role, as they stand in the folder."""
        found = sorted(self.folder.glob("*.json"))
        return {p.stem: Metadata.from_file(str(p)).signed.version for p in found}


@pytest.fixture
def bench() -> Iterator[Bench]:
    with webstore() as store, tempfile.TemporaryDirectory(dir=roomy()) as folder:
        made = Bench(store, Path(folder) / "trust")
        made.publish()
        yield made


def test_init_and_refresh_ask_for_exactly_what_is_needed(bench: Bench) -> None:
    """Five requests at first; two when nothing is new; plain names in the folder."""
    assert bench.init() == 0
    assert bench.versions() == {"root": 1}
    assert bench.tuf("refresh") == 0
    names = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]
    assert [name for name, _ in bench.store.requests] == [f"metadata/{n}" for n in names]
    assert set(bench.versions()) == set(TOP)
    bench.store.requests.clear()
    assert bench.tuf("refresh") == 0
    assert [n for n, _ in bench.store.requests] == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
    ]


def test_same_targets_as_stock_python_tuf(bench: Bench, tmp_path: Path) -> None:
    """What the stock client downloads, ours does, byte for byte, delegations included."""
    bench.repo.delegate("app")
    bench.target("app/a b.bin", b"one", "app")
    bench.target("deep/er/two.bin", b"two")
    names = ["app/a b.bin", "deep/er/two.bin"]
    (tmp_path / "stock").mkdir()
    stock = Updater(
        str(tmp_path / "stock"),
        f"{bench.store.url}/metadata",
        str(tmp_path / "stock"),
        f"{bench.store.url}/targets",
        config=UpdaterConfig(),
        bootstrap=bench.repo.files["1.root.json"],
    )
    stock.refresh()
    expected = {}
    for name in names:
        info = stock.get_targetinfo(name)
        assert info is not None
        path = Path(stock.download_target(info))
        expected[path.name] = path.read_bytes()
    assert bench.init() == 0
    assert bench.download(*names) == 0
    assert bench.downloaded() == expected
    assert bench.versions()["app"] == bench.repo.delegated["app"].version


def test_valid_targets_are_not_fetched_again(bench: Bench) -> None:
    """A target that is there and right costs no request; a damaged one is replaced."""
    bench.target("one.bin", b"one")
    assert bench.init() == 0
    assert bench.download("one.bin") == 0
    bench.store.requests.clear()
    assert bench.download("one.bin") == 0
    assert not [n for n, _ in bench.store.requests if n.startswith("targets/")]
    (bench.targets / "one.bin").write_bytes(b"damaged")
    assert bench.download("one.bin") == 0
    assert bench.downloaded() == {"one.bin": b"one"}


@pytest.mark.parametrize("served", [b"0ne", b"one and more", b"on", None])
def test_wrong_bytes_leave_nothing(bench: Bench, served: bytes | None) -> None:
    """Other, longer, shorter or missing bytes: exit 1, the old file stays, no part is left."""
    bench.target("one.bin", b"old")
    assert bench.init() == 0
    assert bench.download("one.bin") == 0
    bench.target("one.bin", b"one")
    for name in [n for n in bench.store.objects if n.startswith("targets/")]:
        if bench.store.objects[name] == b"one":
            del bench.store.objects[name]
            if served is not None:
                bench.store.objects[name] = served
    assert bench.download("one.bin") == 1
    assert bench.downloaded() == {"one.bin": b"old"}


def test_unlisted_target_still_refreshes(bench: Bench) -> None:
    """A target that nobody lists fails, and the metadata was refreshed all the same."""
    assert bench.init() == 0
    assert bench.download("none.bin") == 1
    assert set(bench.versions()) == set(TOP)
    assert bench.downloaded() == {}


def test_verified_roles_are_kept_when_a_later_one_fails(bench: Bench) -> None:
    """As the specification says: timestamp stands, the snapshot that did not verify does not."""
    assert bench.init() == 0
    del bench.store.objects["metadata/2.snapshot.json"]
    assert bench.tuf("refresh") == 1
    assert bench.versions() == {"root": 1, "timestamp": 2}


def test_rollback_is_refused_and_equal_versions_are_discarded(bench: Bench) -> None:
    """An older timestamp fails; the same version with other content is no error and not kept."""
    assert bench.init() == 0
    assert bench.tuf("refresh") == 0
    before = (bench.folder / "timestamp.json").read_bytes()
    bench.repo.timestamp.expires += timedelta(hours=1)
    bench.store.objects["metadata/timestamp.json"] = bench.repo.sign(
        "timestamp", bench.repo.timestamp
    )
    assert bench.tuf("refresh") == 0
    bench.repo.timestamp.version -= 1
    bench.store.objects["metadata/timestamp.json"] = bench.repo.sign(
        "timestamp", bench.repo.timestamp
    )
    assert bench.tuf("refresh") == 1
    assert (bench.folder / "timestamp.json").read_bytes() == before


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_fast_forward_is_undone_by_new_keys(bench: Bench, role: str) -> None:
    """Versions fall again after the root replaced the keys (5.3.11)."""
    bench.repo.__dict__[role].version = 500
    bench.publish()
    assert bench.init() == 0
    assert bench.tuf("refresh") == 0
    assert bench.versions()[role] == 501
    bench.repo.replace_keys("snapshot")
    bench.repo.replace_keys("timestamp")
    bench.repo.__dict__[role].version = 5
    bench.publish()
    assert bench.tuf("refresh") == 0
    assert bench.versions()[role] == 6


def test_hundreds_of_roots(bench: Bench) -> None:
    """A folder that slept through 300 roots arrives in one refresh."""
    for _ in range(300):
        bench.repo.publish_root()
    bench.publish()
    assert bench.init() == 0
    assert bench.tuf("refresh") == 0
    assert bench.versions()["root"] == 301


def test_without_consistent_snapshots(bench: Bench) -> None:
    """Repositories with plain file names are read too."""
    repo = bench.repo
    repo.root.consistent_snapshot = False
    repo.publish_root(bump=False)
    data = b"plain"
    digest = hashlib.sha256(data).hexdigest()
    repo.targets.targets["x/plain.bin"] = TargetFile(len(data), {"sha256": digest}, "x/plain.bin")
    bench.publish()
    for role in ("snapshot", "targets"):
        version = repo.__dict__[role].version
        moved = bench.store.objects.pop(f"metadata/{version}.{role}.json")
        bench.store.objects[f"metadata/{role}.json"] = moved
    bench.store.objects["targets/x/plain.bin"] = data
    assert bench.init() == 0
    assert bench.download("x/plain.bin") == 0
    assert bench.downloaded() == {"x%2Fplain.bin": data}


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_is_a_folder_is_refused_before_anything_is_asked_for(
    bench: Bench, name: str
) -> None:
    """Not even a temporary file stands beside the folder."""
    bench.target(name, b"evil")
    assert bench.init() == 0
    bench.store.requests.clear()
    assert bench.download(name) == 1
    assert not [n for n, _ in bench.store.requests if n.startswith("targets/")]
    assert bench.downloaded() == {}


def test_names_stay_in_the_folder(bench: Bench) -> None:
    """Neither a role nor a target can write outside of the folders that were given."""
    bench.repo.delegate("../../evil", ["../*"])
    bench.target("../out.bin", b"out", "../../evil")
    data = bench.repo.files
    name = next(n for n in data if "evil" in n)
    bench.store.objects[f"metadata/{name}"] = data[name]
    assert bench.init() == 0
    before = {p for p in bench.folder.parent.rglob("*") if p.is_file()}
    bench.download("../out.bin")
    made = {p for p in bench.folder.parent.rglob("*") if p.is_file()} - before
    assert all(p.parent in (bench.folder, bench.targets) for p in made)


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["init", "/nonexistent.json"],
        ["refresh"],
        ["--metadata-url", "ftp://x/", "refresh"],
        ["--metadata-url", "http://127.0.0.1:9/", "refresh"],
        ["--metadata-url", "http://127.0.0.1:9/", "download"],
    ],
)
def test_wrong_calls(bench: Bench, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Each says what is wrong, exits 1 and keeps what was there."""
    assert bench.init() == 0
    assert main(["tuf", "--metadata-dir", str(bench.folder), *words]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert bench.versions() == {"root": 1}


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"\xff" * 100, b"{" * 5000, b" " * 600_000])
def test_bad_first_root(bench: Bench, data: bytes) -> None:
    """A file that is no self-signed root is not taken; nothing is asked of the store."""
    root = bench.folder.parent / "bad.json"
    root.write_bytes(data)
    assert main(["tuf", "--metadata-dir", str(bench.folder), "init", str(root)]) == 1
    assert not bench.folder.exists()
    assert bench.tuf("refresh") == 1
    assert bench.store.requests == []
