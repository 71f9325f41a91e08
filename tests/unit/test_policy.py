"""Policies: what ships, what is inherited, and that every mistake names file and key."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from simulators.signed import NOW, POLICIES, Signed, replaced

from signing import policy
from signing.enrolment import key_to_dict
from signing.errors import Malformed, NotFound, OtaError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("image.toml", "director.toml", "rollout.toml"):
        shutil.copy(POLICIES / name, tmp_path / name)
    return tmp_path


def test_shipped_policies_ask_for_two_of_three_offline(folder: Path) -> None:
    """The defaults: roots and targets 2 of 3, online roles apart, one approver."""
    found = policy.load(folder)
    for role in (found.image.root, found.image.targets, found.director.root):
        assert (role.threshold, len(role.keyholders)) == (2, 3)
    assert found.image.snapshot.keyholders == found.image.timestamp.keyholders == ("image-online",)
    assert found.director.online.keyholders == ("director-online",)
    assert (found.director.open, found.director.idle) == (timedelta(days=3), timedelta(days=30))
    assert found.image.root.expires == found.director.root.expires == timedelta(days=365)
    assert found.rollout.threshold == 1


def test_no_keyholder_of_the_defaults_is_in_both_repositories(folder: Path) -> None:
    """Image and director never share a keyholder."""
    sides = [{r.split()[0] for r in roles} for roles in policy.load(folder).holders().values()]
    assert not any({"image", "director"} <= side for side in sides)


def test_a_component_inherits_what_its_table_leaves_out(folder: Path) -> None:
    """Keyholders, threshold and expiry each come from [targets] unless they are given."""
    with (folder / "image.toml").open("a") as file:
        file.write('\n[components.mcu]\nkeyholders = ["mcu-1", "mcu-2"]\n')
    found = policy.load(folder).image
    assert found.component("app") == found.targets
    assert found.component("mcu").keyholders == ("mcu-1", "mcu-2")
    assert found.component("mcu").threshold == found.targets.threshold
    assert found.component("mcu").expires == found.targets.expires


MISTAKES = [
    ("image.toml", r"threshold = 2", "threshold = 4", "root.threshold is 4, of 3 keyholders"),
    ("image.toml", r"threshold = 2", "threshold = 0", "root.threshold is 0"),
    ("image.toml", r"threshold = 2", "threshold = -1", "root.threshold is -1"),
    ("image.toml", r"threshold = 2", 'threshold = "2"', "root.threshold: Expected `int`"),
    ("image.toml", r"threshold = 2", "threshold = 2.0", "root.threshold"),
    ("image.toml", r"threshold = 2", "threshold = true", "root.threshold"),
    ("image.toml", r"threshold = 2\n", "", "root: Object missing required field `threshold`"),
    ("image.toml", r'"root-2"', '"root-1"', "root.keyholders names root-1 twice"),
    ("image.toml", r'"root-2"', '"../root"', "root.keyholders '../root' is not"),
    ("image.toml", r'"root-2"', "2", "root.keyholders[1]: Expected `str`"),
    ("image.toml", r"keyholders = \[.*\]", "keyholders = []", "root.keyholders lists 0"),
    ("image.toml", r'"365d"', '"0d"', "root.expires: '0d' is not a duration"),
    ("image.toml", r'"365d"', '"-3d"', "root.expires: '-3d' is not a duration"),
    ("image.toml", r'"365d"', '"1y"', "root.expires: '1y' is not a duration"),
    ("image.toml", r'"365d"', '"99999d"', "root.expires: 99999d is longer than ten years"),
    ("image.toml", r"^\[root\]", "[roots]", "unknown field `roots`"),
    ("image.toml", r"^\[root\]", "[root]\nkeyholder = 1", "unknown field `keyholder`"),
    ("image.toml", r"^\[root\]", "[root", "image.toml: "),
    ("image.toml", r"^\[root\]", "[components.targets]\n[root]", "components.targets is not a"),
    ("image.toml", r"^\[root\]", "[components.workspace]\n[root]", "components.workspace is not"),
    ("image.toml", r"^\[root\]", '[components."a/b"]\n[root]', "components.a/b is not a name"),
    ("image.toml", r"^\[root\]", "[components.a]\nthreshold=9\n[root]", "components.a.threshold"),
    ("director.toml", r"threshold = 1", "threshold = 2", "online.threshold is 2, of 1"),
    ("director.toml", r'open = "3d"', 'open = "3"', "online.open: '3' is not a duration"),
    ("director.toml", r'open = "3d"', 'open = "31d"', "online.open is longer than online.idle"),
    ("director.toml", r'idle = "30d"', 'idle = "x"', "online.idle: 'x' is not a duration"),
    (
        "director.toml",
        r'"director-online"',
        '"image-online"',
        "image-online is a keyholder of both",
    ),
    ("rollout.toml", r"threshold = 1", "threshold = 2", "threshold is 2; 1 approvers"),
    ("rollout.toml", r"threshold = 1", "threshold = 0", "threshold is 0"),
    ("rollout.toml", r'\["approver"\]', '["author"]', "threshold is 1; 0 approvers"),
    ("rollout.toml", r"authors", "author", "unknown field `author`"),
]


@pytest.mark.parametrize(("name", "pattern", "text", "message"), MISTAKES)
def test_a_mistake_names_its_file_and_key(
    folder: Path, name: str, pattern: str, text: str, message: str
) -> None:
    """Every malformed policy is a usage error whose message says where."""
    path = folder / name
    before = path.read_text()
    path.write_text(replaced(pattern, text)(before))
    assert path.read_text() != before
    with pytest.raises(Malformed) as caught:
        policy.load(folder)
    assert str(caught.value).startswith(name)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a = [" * 5000, b"#" * 300_000, b""])
def test_hostile_bytes_are_malformed(folder: Path, data: bytes) -> None:
    """Wrong encodings, deep nesting and oversized files do not get past the reader."""
    (folder / "image.toml").write_bytes(data)
    with pytest.raises(Malformed):
        policy.load(folder)


@pytest.mark.parametrize("name", ["image.toml", "director.toml", "rollout.toml"])
def test_a_missing_file_says_how_to_get_one(folder: Path, name: str) -> None:
    """A folder without policies is not a workspace."""
    (folder / name).unlink()
    with pytest.raises(NotFound, match=name) as caught:
        policy.load(folder)
    assert caught.value.remedy == "ota init"


def test_a_missing_keyholder_says_how_to_get_one(folder: Path) -> None:
    """A policy may name keyholders before they have keys; using one then names it."""
    with pytest.raises(NotFound, match="root-1") as caught:
        policy.load(folder).key("root-1")
    assert "ota key generate root-1" in caught.value.remedy


def test_one_key_under_two_names_is_refused(tmp_path: Path) -> None:
    """Two names with one key would let one person reach a threshold of two."""
    place = Signed(tmp_path)
    holders = tmp_path / "repo-metadata" / "keyholders"
    shutil.copy(holders / "root-1.json", holders / "root-2.json")
    with pytest.raises(Malformed, match="root-1 and root-2 share one key"):
        place.repos.create(NOW)
    assert place.repos.pending("image") is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"keyid": "00", "keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "00"}}',
        b'{"keyid": 1}',
        b"{" * 100,
        b"x" * 70_000,
    ],
)
def test_a_public_key_that_is_none_is_refused(folder: Path, body: bytes) -> None:
    """A keyholder's file must be a key whose id is its own digest."""
    (folder / "keyholders").mkdir()
    (folder / "keyholders" / "root-1.json").write_bytes(body)
    with pytest.raises(OtaError) as caught:
        policy.load(folder).key("root-1")
    assert caught.value.code == "malformed"


def test_a_key_id_of_another_key_is_refused(folder: Path) -> None:
    """A key file whose id was exchanged is not that key."""
    body = key_to_dict(CryptoSigner.generate_ed25519().public_key)
    body["keyid"] = CryptoSigner.generate_ed25519().public_key.keyid
    (folder / "keyholders").mkdir()
    (folder / "keyholders" / "root-1.json").write_text(json.dumps(body))
    with pytest.raises(Malformed, match="id is not the digest"):
        policy.load(folder).key("root-1")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a" * 129, "ä", "a\n"])
def test_names_with_paths_in_them_build_no_path(folder: Path, name: str) -> None:
    """A keyholder's name is checked before a path is made of it (rule 14)."""
    with pytest.raises(Malformed):
        policy.read_key(folder, name)
