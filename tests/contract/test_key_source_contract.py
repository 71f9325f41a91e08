"""One contract for every place where a private key may live; real token, real endpoint, real command.

Each source makes keys of each scheme that it has, in every role; each fault is an error of its
own, at import and at a ceremony, and leaves every file of the workspace as it was.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import SSlibKey

from ota.cli.app import run
from signing.errors import OtaError
from signing.keys import exec as keys_exec
from signing.keys import keys
from tests.simulators import kms, ministack, softhsm
from tests.simulators.identities import HARDWARE, Identity

ROLES = (
    *(f"{role}-{n}" for role in ("root", "targets", "director-root") for n in (1, 2, 3)),
    *("image-online", "director-online", "author", "approver"),
)
SIGNERS = ("root-1", "root-2", "targets-1", "targets-2", "director-root-1", "director-root-2")
_EDWARDS = "ECC_NIST_EDWARDS25519"
SECRET = "correct horse battery staple"
SIGN_IT = """\
#!/bin/sh
# What a vendor ships: the payload on stdin, the signature on stdout.
set -eu
if [ "$OTA_SIGNER_REQUEST" = public-key ]; then exec openssl pkey -in "$2" -pubout; fi
case $1 in
  ecdsa-p256) exec openssl dgst -sha256 -sign "$2" ;;
  ecdsa-p384) exec openssl dgst -sha384 -sign "$2" ;;
  rsa-3072) exec openssl dgst -sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 \\
    -sign "$2" ;;
  ed25519) cat >"$2.payload"
    openssl pkeyutl -sign -rawin -inkey "$2" -in "$2.payload" | od -An -v -tx1 ;;
esac
"""


@dataclass(frozen=True)
class Made:
    """A key that exists somewhere: its URI, its secret, what the environment must say."""

    uri: str
    secret: str = SECRET
    env: dict[str, str] = field(default_factory=dict)

    def load(self, public: SSlibKey) -> keys.CheckedSigner:
        signer = keys.load(self.uri, public, self.secret.encode, env=self.env)
        assert isinstance(signer, keys.CheckedSigner)
        return signer

    def public(self) -> SSlibKey:
        return keys.public(self.uri, self.secret.encode, env=self.env)


class Provider(Protocol):
    """One kind of source: makes keys, and breaks them in each way that is its own."""

    schemes: tuple[str, ...]

    def make(self, scheme: str = "ecdsa-p256") -> Made: ...

    def broken(self, made: Made, code: str) -> Made: ...


class Files:
    schemes = keys.SCHEMES

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def make(self, scheme: str = "ecdsa-p256") -> Made:
        self._count += 1
        path = self.folder / f"{self._count}.pem"
        keys.generate(path, SECRET.encode(), scheme)
        return Made(f"file:{path}")

    def broken(self, made: Made, code: str) -> Made:
        if code == "passphrase":
            return Made(made.uri, "another one")
        if code == "wrong-key":
            return self.make()
        if code == "unencrypted":
            path = self.folder / "open.pem"
            path.write_bytes(_open_pem(self.folder / made.uri.removeprefix("file:")))
            return Made(f"file:{path}")
        return Made(f"file:{self.folder}/nobody.pem")


class Tokens:
    schemes = ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072")

    def __init__(self, folder: Path) -> None:
        self._token = softhsm.new_token("4711")
        self._count = 0

    def make(self, scheme: str = "ecdsa-p256") -> Made:
        self._count += 1
        self._token.make(scheme, self._count)
        return Made(self._token.uri(self._count), self._token.pin, self._token.env)

    def broken(self, made: Made, code: str) -> Made:
        uri, pin, env = made.uri, made.secret, made.env
        ways: dict[str, Callable[[], Made]] = {
            "pin": lambda: Made(uri, "1147", env),
            "wrong-key": self.make,
            "key-scheme": lambda: self.make("p521"),
            "hsm-module": lambda: Made(uri, pin, {"PYKCS11LIB": "/usr/lib/no-vendor.so"}),
            "hsm-token": lambda: Made(f"{uri}-other", pin, env),
            "malformed": lambda: Made(f"{uri}&pin-value={pin}", pin, env),
            "hsm-key": lambda: Made(self._token.uri(200), pin, env),
        }
        return ways[code]()


class Cloud:
    schemes = ("ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072")

    def __init__(self, server: kms.Kms) -> None:
        self._kms = server
        self._env = kms.environment(server.url)

    def make(self, scheme: str = "ecdsa-p256") -> Made:
        kind, _, size = scheme.partition("-")
        spec = f"RSA_{size}" if kind == "rsa" else f"ECC_NIST_{size.upper()}"
        return Made(f"awskms:{self._kms.make(spec)}", env=self._env)

    def broken(self, made: Made, code: str) -> Made:
        uri, env = made.uri, self._env
        nowhere = dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "")
        nobody = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "")
        closed = f"http://127.0.0.1:{ministack.free_port()}"
        ways: dict[str, Callable[[], Made]] = {
            "kms-unreachable": lambda: Made(uri, env=kms.environment(closed)),
            "wrong-key": self.make,
            "key-scheme": lambda: Made(f"awskms:{self._kms.make(_EDWARDS)}", env=env),
            "kms-state": lambda: self._disabled(made),
            "kms-region": lambda: Made(f"awskms:{uri.rpartition('/')[2]}", env=env | nowhere),
            "kms-credentials": lambda: Made(uri, env=env | nobody),
            "kms-key": lambda: Made(f"awskms:alias/nobody-{uri[-8:]}", env=env),
        }
        return ways[code]()

    def _disabled(self, made: Made) -> Made:
        self._kms.client().disable_key(KeyId=made.uri.removeprefix("awskms:"))
        return made


class Commands:
    schemes = keys.SCHEMES

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a folder"
        self.folder.mkdir()
        self._count = 0

    def script(self, text: str) -> str:
        self._count += 1
        path = self.folder / f"sign-it-{self._count}"
        path.write_text(text)
        path.chmod(0o700)
        return f"exec:'{path}'"

    def make(self, scheme: str = "ecdsa-p256") -> Made:
        path = self.folder / f"{self._count}.pem"
        keys.generate(path, SECRET.encode(), scheme)
        path.write_bytes(_open_pem(path))
        return Made(f"{self.script(SIGN_IT)} {scheme} '{path}'", env={"PATH": os.environ["PATH"]})

    def broken(self, made: Made, code: str) -> Made:
        if code == "wrong-key":
            return self.make()
        if code == "malformed":
            return Made("exec:sign-it --slot 3")
        if code == "signer-missing":
            return Made(f"exec:'{self.folder}/nobody' --slot 3")
        text = {
            "signer-failed": "echo 'no card in slot 3' >&2; exit 3",
            "signer-timeout": "sleep 30",
            "signer-output": "echo signed, trust me",
            "signer-output, endless": "exec yes",
            "signer-output, none": "exit 0",
        }[code]
        return Made(self.script(f"#!/bin/sh\n{text}\n"), env=made.env)


def _open_pem(path: Path) -> bytes:
    private = load_pem_private_key(path.read_bytes(), SECRET.encode())
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="session")
def kms_server() -> Iterator[kms.Kms]:
    """One endpoint for the whole session."""
    with kms.ministack() as running:
        yield running


@pytest.fixture(scope="session")
def provider(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Provider]:
    """The sources by name, each made when it is first asked for."""
    made: dict[str, Provider] = {}

    def get(name: str) -> Provider:
        if name not in made:
            if name == "awskms":
                made[name] = Cloud(request.getfixturevalue("kms_server"))
            else:
                kinds = {"file": Files, "hsm": Tokens, "exec": Commands}
                made[name] = kinds[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 reads the process's own environment: nothing of this machine in it."""
    for name in os.environ:
        if name.startswith(("AWS_", "OTA_")) or name == "PYKCS11LIB":
            monkeypatch.delenv(name)
    for name, value in kms.environment("http://127.0.0.1:1").items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Made], Made]:
    """Let the process's environment be what a key needs; an empty value removes a variable."""

    def apply(made: Made) -> Made:
        for name, value in (made.env | {"OTA_PASSPHRASE": made.secret}).items():
            if value:
                monkeypatch.setenv(name, value)
            else:
                monkeypatch.delenv(name, raising=False)
        return made

    return apply


KINDS = {"file": Files, "hsm": Tokens, "awskms": Cloud, "exec": Commands}
SCHEMES = [(name, scheme) for name, kind in KINDS.items() for scheme in kind.schemes]
FAULTS = [
    *(("file", code) for code in ("passphrase", "not-found", "unencrypted", "wrong-key")),
    *(("hsm", code) for code in ("pin", "hsm-token", "hsm-key", "hsm-module", "wrong-key")),
    *(("hsm", code) for code in ("key-scheme", "malformed")),
    *(("awskms", code) for code in ("kms-unreachable", "kms-key", "kms-state", "kms-region")),
    *(("awskms", code) for code in ("kms-credentials", "wrong-key", "key-scheme")),
    *(("exec", code) for code in ("signer-missing", "signer-failed", "signer-timeout")),
    *(("exec", code) for code in ("signer-output", "signer-output, endless")),
    *(("exec", code) for code in ("signer-output, none", "wrong-key", "malformed")),
]


@pytest.mark.parametrize(("source", "scheme"), SCHEMES)
def test_every_scheme_of_every_source(
    provider: Callable[[str], Provider], use: Callable[[Made], Made], source: str, scheme: str
) -> None:
    """The public half is read, the key seen to be there, and short and long payloads signed."""
    made = use(provider(source).make(scheme))
    public = made.public()
    keys.check(made.uri, public, env=made.env)
    signer = made.load(public)
    for payload in (b"payload", os.urandom(300_000)):
        signature = signer.sign(payload)
        assert signature.keyid == public.keyid
        public.verify_signature(signature, payload)
        with pytest.raises(UnverifiedSignatureError):
            public.verify_signature(signature, payload + b"x")


@pytest.mark.parametrize(("source", "fault"), FAULTS)
def test_every_fault_has_its_own_code(
    provider: Callable[[str], Provider],
    use: Callable[[Made], Made],
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    fault: str,
) -> None:
    """Loading and signing end in the error that says what is wrong, and shows no secret."""
    monkeypatch.setattr(keys_exec, "TIME_LIMIT", 0.3)
    made = use(provider(source).make())
    public = made.public()
    bad = use(provider(source).broken(made, fault))
    with pytest.raises(OtaError) as caught:
        bad.load(public).sign(b"payload")
    assert caught.value.code == fault.partition(",")[0]
    assert caught.value.remedy or caught.value.code == "malformed"
    if source in {"file", "hsm"}:
        assert bad.secret not in f"{caught.value} {caught.value.subject} {caught.value.remedy}"


# -- the whole road, and ceremonies ---------------------------------------------------------------


class Ota:
    """The command line over one workspace."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *words: str | Path, code: int | None = 0) -> str:
        self._capsys.readouterr()
        found = run(["-C", str(self.folder), "-y", *map(str, words)])
        out, err = self._capsys.readouterr()
        assert code is None or found == code, err
        return out if found == 0 else err

    def files(self) -> dict[str, bytes]:
        kept = (p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".lock")
        return {str(p.relative_to(self.folder)): p.read_bytes() for p in kept}


@pytest.fixture
def ota(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Ota:
    """An empty workspace."""
    made = Ota(tmp_path / "ws", capsys)
    made("init", made.folder)
    return made


@pytest.mark.parametrize("source", list(KINDS))
def test_every_role_by_every_source(
    provider: Callable[[str], Provider], use: Callable[[Made], Made], ota: Ota, source: str
) -> None:
    """Roots, targets, components, snapshot, timestamp, director, author and approver: one source.

    A release is signed, a device registered and a rollout started, with no key in a file of ours.
    """
    for name in ROLES:
        ota("key", "import", name, "--uri", use(provider(source).make()).uri)
    assert not list((ota.folder / "keys").iterdir())
    rows = json.loads(ota("key", "list", "--check", "-o", "json"))
    assert {row["name"] for row in rows if row["reachable"] == "yes"} == set(ROLES)
    assert {row["private"].partition(":")[0] for row in rows} == {source}
    ota("repo", "create")
    ota("repo", "sign", *(word for name in SIGNERS for word in ("--key", name)))
    ota("repo", "publish")
    image = ota.folder / "app.bin"
    image.write_bytes(b"app")
    ota("release", "add", image, "--component", "app", "--version", "1.0.0", "--hardware", HARDWARE,
        "--sign", "targets-1", "--sign", "targets-2", "--publish")  # fmt: skip
    ota("fleet", "register", _enrolment(ota.folder), "--unsafe-allow-any")
    ota("repo", "verify")
    spec, plan = ota.folder / "spec.yaml", ota.folder / "plan.json"
    spec.write_text("rollout: x\nrelease: app@1.0.0\nwaves: [{name: all, rest: true}]\nsoak: 0s\n")
    ota("rollout", "plan", spec, "--out", plan)
    ota("rollout", "approve", plan, "--key", "approver")
    assert json.loads(ota("rollout", "start", plan, "-o", "json"))["state"] == "RUNNING"


def _enrolment(folder: Path) -> Path:
    path = folder / "gw-1.json"
    from tests.cli.conftest import roots_of  # noqa: PLC0415 - the same workspace as there

    path.write_bytes(Identity("gw-1").enrol({"app": _factory()}, **roots_of(folder)))
    return path


def _factory() -> object:
    from tests.cli.conftest import component  # noqa: PLC0415 - the same device as there

    return component("factory")


@pytest.fixture(scope="session")
def pending(
    provider: Callable[[str], Provider], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Made]]:
    """A workspace for each source in which ``root-1`` is to sign the first root."""
    made: dict[str, tuple[Path, Made]] = {}

    def get(source: str) -> tuple[Path, Made]:
        if source not in made:
            folder = tmp_path_factory.mktemp(f"pending-{source}") / "ws"
            key = provider(source).make()
            with pytest.MonkeyPatch.context() as patch:
                for name, value in (key.env | {"OTA_PASSPHRASE": key.secret}).items():
                    patch.setenv(name, value)
                assert run(["-C", str(folder), "init", str(folder)]) == 0
                words = ["-C", str(folder), "key"]
                assert run([*words, "import", "root-1", "--uri", key.uri]) == 0
                assert run([*words, "generate", *(n for n in ROLES if n != "root-1")]) == 0
                assert run(["-C", str(folder), "repo", "create"]) == 0
            made[source] = (folder, key)
        return made[source]

    return get


@pytest.mark.parametrize(("source", "fault"), [f for f in FAULTS if f[1] != "kms-state"])
def test_a_fault_in_a_ceremony_stores_nothing(
    provider: Callable[[str], Provider],
    pending: Callable[[str], tuple[Path, Made]],
    use: Callable[[Made], Made],
    ota: Ota,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    fault: str,
) -> None:
    """``repo sign`` names the fault, every file stays as it is, and the right key signs after it."""
    monkeypatch.setattr(keys_exec, "TIME_LIMIT", 0.3)
    folder, good = pending(source)
    shutil.rmtree(ota.folder)
    shutil.copytree(folder, ota.folder)
    toml = ota.folder / "ota.toml"
    right = toml.read_text()
    bad = use(provider(source).broken(use(good), fault))
    toml.write_text(right.replace(json.dumps(good.uri), json.dumps(bad.uri)))
    before = ota.files()
    said = ota("repo", "sign", "--key", "root-1", code=None)
    assert f"\ncode: {fault.partition(',')[0]}\n" in said
    assert "\nnext: " in said
    assert ota.files() == before
    monkeypatch.setattr(keys_exec, "TIME_LIMIT", 60.0)
    toml.write_text(right)
    use(good)
    ota("repo", "sign", "--key", "root-1")
    assert ota.files() != before


@pytest.mark.parametrize(("source", "fault"), [f for f in FAULTS if f[1] != "wrong-key"])
def test_a_fault_at_import_stores_nothing(
    provider: Callable[[str], Provider],
    use: Callable[[Made], Made],
    ota: Ota,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    fault: str,
) -> None:
    """``key import`` names the fault; neither a public half nor a line in ota.toml is written."""
    monkeypatch.setattr(keys_exec, "TIME_LIMIT", 0.3)
    bad = use(provider(source).broken(use(provider(source).make()), fault))
    before = ota.files()
    said = ota("key", "import", "root-1", "--uri", bad.uri, code=None)
    assert f"\ncode: {fault.partition(',')[0]}\n" in said
    if source in {"file", "hsm"}:
        assert bad.secret not in said
    assert ota.files() == before


@pytest.mark.parametrize("source", list(KINDS))
def test_another_key_under_a_known_name_is_refused(
    provider: Callable[[str], Provider], use: Callable[[Made], Made], ota: Ota, source: str
) -> None:
    """A keyholder's key is never replaced, and taking the same key twice changes nothing."""
    made = use(provider(source).make())
    for _ in range(2):
        ota("key", "import", "root-1", "--uri", made.uri)
    before = ota.files()
    other = use(provider(source).make())
    said = ota("key", "import", "root-1", "--uri", other.uri, code=4)
    assert "\ncode: exists\n" in said
    toml = ota.folder / "ota.toml"
    text = toml.read_text()
    toml.write_text(text[: text.index("\n[keys]")])
    said = ota("key", "import", "root-1", "--uri", other.uri, code=4)
    assert "\ncode: wrong-key\n" in said
    toml.write_text(text)
    assert ota.files() == before


def test_the_endpoint_listens_on_this_machine_only(kms_server: kms.Kms) -> None:
    """The emulator's only listener is on 127.0.0.1."""
    found = [c for c in psutil.Process(kms_server.pid).net_connections() if c.status == "LISTEN"]
    assert [c.laddr.ip for c in found] == ["127.0.0.1"]


def test_a_key_too_weak_or_strange_is_not_taken() -> None:
    """P-521 has no TUF scheme here: refused by name, whatever holds it."""
    public = ec.generate_private_key(ec.SECP521R1()).public_key()
    with pytest.raises(OtaError) as caught:
        keys.read_public(_spki(public), "a file")
    assert caught.value.code == "key-scheme"


def _spki(public: ec.EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import PublicFormat  # noqa: PLC0415 - here only

    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
