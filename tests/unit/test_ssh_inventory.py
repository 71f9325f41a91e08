"""The SSH inventory: complete, strict, every hop pinned under its own name; keys by reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulators.sshd import fingerprint, keygen

from ota.couriers.ssh_inventory import Hop, read
from ota.couriers.ssh_keys import Keys
from ota.errors import Malformed, NotFound, OtaError
from ota.settings import settings

PIN = "SHA256:" + "a" * 43
GOOD = f"""
[defaults]
user = "plant"
key = "file:keys/ssh"
command = ["sudo", "-n", "/opt/ota/bin/ota-agent"]
[limits]
parallel = 10
[sites.lyon]
parallel = 2
via = ["outer", "inner"]
[hops.outer]
address = "jump.example"
fingerprints = ["{PIN}"]
[hops.inner]
address = "10.0.0.1"
port = 2222
user = "inner"
fingerprints = ["{PIN}", "{PIN[:-1]}b"]
[hosts.press-07]
site = "lyon"
address = "10.0.0.7"
fingerprints = ["{PIN}"]
[hosts."a:b"]
site = "lyon"
address = "fe80::1%eth0"
via = []
key = "agent"
fingerprints = []
legacy = ["aes-cbc"]
"""


def test_defaults_sites_and_own_words() -> None:
    """A host's own words win over its site's and the defaults; the chain is nearest first."""
    found = read(GOOD.encode(), "ssh.toml")
    press = found.host("press-07")
    assert (press.name, press.user, press.key, press.port) == (
        "press-07",
        "plant",
        "file:keys/ssh",
        22,
    )
    assert [(h.name, h.user, h.port) for h in found.chain("press-07")] == [
        ("outer", "plant", 22),
        ("inner", "inner", 2222),
    ]
    assert found.chain("a:b") == ()
    assert (found.host("a:b").key, found.host("a:b").legacy) == ("agent", ("aes-cbc",))
    assert (found.parallel("lyon"), found.parallel("")) == (2, 10)


def test_a_device_that_is_not_listed() -> None:
    """Named, with what to add."""
    with pytest.raises(NotFound) as caught:
        read(GOOD.encode(), "ssh.toml").host("gw-9")
    assert (caught.value.code, "hosts.gw-9" in caught.value.remedy) == ("ssh-unlisted", True)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ('address = "10.0.0.7"', "", "hosts.press-07"),
        ('address = "10.0.0.7"', 'address = "-oProxyCommand=x"', "hosts.press-07.address"),
        ('address = "10.0.0.7"', 'address = "a b"', "hosts.press-07.address"),
        ('user = "inner"', 'user = "-l"', "hops.inner.user"),
        ('user = "inner"', 'user = "a b"', "hops.inner.user"),
        ("port = 2222", "port = 0", "hops.inner"),
        ("port = 2222", 'port = "22"', "hops.inner"),
        ("port = 2222", "prot = 22", "prot"),
        (f'fingerprints = ["{PIN}"]', "", "hops.outer"),
        (PIN, "MD5:aa:bb", "hops.outer.fingerprints"),
        (PIN, PIN[:-1], "hops.outer.fingerprints"),
        ('"file:keys/ssh"', '"~/.ssh/id_rsa"', "hops.outer.key"),
        ('"file:keys/ssh"', '"agent:x"', "hops.outer.key"),
        ('user = "plant"', 'passphrase = "swordfish"', "passphrase"),
        ('via = ["outer", "inner"]', 'via = ["outer", "gone"]', "sites.lyon.via"),
        ('via = ["outer", "inner"]', 'via = ["outer", "outer"]', "sites.lyon.via"),
        ('site = "lyon"\naddress = "10', 'site = "rome"\naddress = "10', "hosts.press-07.site"),
        ("parallel = 2", "parallel = 0", "sites"),
        ("parallel = 10", "parallel = 10\nbanner = 0", "limits"),
        ('legacy = ["aes-cbc"]', 'legacy = ["all"]', "hosts.a:b"),
        ('user = "plant"', 'address = "x"', "defaults"),
        ('user = "plant"', 'colour = "x"', "defaults"),
        ('user = "plant"', 'mirror = "relative"', "hosts.press-07.mirror"),
        ('user = "plant"', 'mirror = "/a/../etc"', "hosts.press-07.mirror"),
        ('user = "plant"', "config = '/a;id'", "hosts.press-07.config"),
        ('user = "plant"', 'name = "x"', "name"),
        ("[hosts.press-07]", '[hosts."../x"]', "hosts"),
        ("[limits]", "[limit]", "limit"),
        ("[limits]", "[limits", "ssh.toml"),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, where: str) -> None:
    """File, table and key; a literal passphrase is not repeated."""
    assert old in GOOD
    with pytest.raises(Malformed) as caught:
        read(GOOD.replace(old, new, 1).encode(), "ssh.toml")
    assert str(caught.value).startswith("ssh.toml: ")
    assert where in str(caught.value)
    assert "swordfish" not in str(caught.value)


def test_more_hops_than_make_sense() -> None:
    """Five at most."""
    hops = "".join(f'[hops.h{n}]\naddress = "h"\nfingerprints = []\n' for n in range(6))
    names = ", ".join(f'"h{n}"' for n in range(6))
    text = f'{hops}[hosts.x]\naddress = "x"\nfingerprints = []\nvia = [{names}]\n'
    with pytest.raises(Malformed, match=r"hosts\.x\.via"):
        read(text.encode(), "ssh.toml")


# -- keys ----------------------------------------------------------------------------------------
def keys(folder: Path, **env: str) -> Keys:
    (folder / settings.FILE).write_text(settings.TEMPLATE)
    return Keys(settings.load(folder, env).secret)


def hop(key: str, passphrase: str = "") -> Hop:
    return Hop(name="x", address="x", key=key, passphrase=passphrase, fingerprints=())


@pytest.mark.parametrize(("kind", "bits"), [("ed25519", ""), ("ecdsa", "384"), ("rsa", "2048")])
def test_keys_of_every_kind(tmp_path: Path, kind: str, bits: str) -> None:
    """Plain, and encrypted with the passphrase by reference."""
    plain = keygen(tmp_path / "plain", kind, bits=bits)
    keygen(tmp_path / "closed", kind, "swordfish", bits)
    found = keys(tmp_path, WORD="swordfish")
    for key in (hop("file:plain"), hop("file:closed", "env:WORD")):
        (made,) = found.of(key)
        path = plain if key.key == "file:plain" else tmp_path / "closed"
        assert made.fingerprint == fingerprint(path.with_suffix(".pub"))


@pytest.mark.parametrize(
    ("key", "passphrase", "code"),
    [
        ("file:none", "", "not-found"),
        ("file:open", "", "secret-mode"),
        ("file:garbage", "", "ssh-key"),
        ("file:short", "", "ssh-key"),
        ("file:closed", "", "ssh-key"),
        ("file:closed", "env:WRONG", "ssh-key"),
        ("file:closed", "env:NONE", "not-found"),
        ("file:plain", "env:WRONG", "ssh-key"),
    ],
)
def test_keys_that_can_not_be_used(tmp_path: Path, key: str, passphrase: str, code: str) -> None:
    """Each its own error, before anything is sent, and no secret in it."""
    keygen(tmp_path / "plain")
    keygen(tmp_path / "open").chmod(0o644)
    keygen(tmp_path / "closed", passphrase="swordfish")
    keygen(tmp_path / "short", "rsa", bits="1024")
    (tmp_path / "garbage").write_text("garbage")
    (tmp_path / "garbage").chmod(0o600)
    with pytest.raises(OtaError) as caught:
        keys(tmp_path, WRONG="halibut").of(hop(key, passphrase))
    assert caught.value.code == code
    assert "halibut" not in f"{caught.value}{caught.value.remedy}"


def test_endless_nesting_is_named() -> None:
    """A file that no parser ends is malformed, not a traceback."""
    with pytest.raises(Malformed, match=r"^ssh\.toml"):
        read(b"hosts = " + b"[" * 100_000, "ssh.toml")
