"""The one reader of ``ota.toml`` and of the environment.

A workspace is a folder with an ``ota.toml``; every relative path in it counts from that folder.
Every secret is a *reference*: ``env:VARIABLE``, ``file:PATH`` (mode 0600) or ``prompt``; a
literal secret is refused, because a settings file ends in version control.

```toml
[store]
url = "file:store"                      # or s3://BUCKET/PREFIX; see store.py
[registry]
url = "sqlite:///state/registry.db"     # or postgresql+psycopg://ota@db/ota
password = "env:OTA_DB_PASSWORD"        # only where the database asks for one
[couriers.spool]
path = "spool"
[couriers.ssh]
inventory = "ssh.toml"
[couriers.iot-jobs]
queue = "https://sqs.eu-west-1.amazonaws.com/111122223333/ota-reports"
[keys]
root-1 = "file:/media/usb/root-1.pem"   # without a line: file:keys/NAME.pem
root-2 = "hsm:1?label=plant"            # its PIN is looked for as a passphrase is
[passphrases]
default = "prompt"
root-1 = "file:/run/secrets/root-1"
```

A passphrase is looked for in this order: ``OTA_PASSPHRASE_<NAME>`` (upper case, ``-`` and ``:``
as ``_``), ``[passphrases] NAME``, ``OTA_PASSPHRASE``, ``[passphrases] default``, then a prompt.

>>> settings = load(Path("."), os.environ)
>>> settings.key_uri("root-1")
'file:keys/root-1.pem'
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import msgspec

from ota.errors import Malformed, NotFound
from ota.settings.aws import AwsSettings
from ota.settings.couriers import Couriers, IotJobsSettings, SpoolSettings, SsmSettings
from ota.settings.references import References, is_reference
from ota.settings.store import StoreSettings
from signing import durable, strict

FILE = "ota.toml"
TEMPLATE = """\
# The settings of this workspace. Secrets stand here by reference only: env:, file:, prompt.

[store]
url = "file:store"

[registry]
url = "sqlite:///state/registry.db"

[couriers.spool]
path = "spool"

[passphrases]
default = "prompt"
"""
LIMIT = 256 * 1024


class _Registry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "sqlite:///state/registry.db"
    password: str = ""


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    store: StoreSettings = StoreSettings()
    registry: _Registry = _Registry()
    couriers: Couriers = Couriers(SpoolSettings())
    aws: AwsSettings = AwsSettings()
    keys: dict[str, str] = {}
    passphrases: dict[str, str] = {}


@dataclass(frozen=True)
class Settings:
    """What a workspace says, checked. ``env`` is kept for references into it."""

    workspace: Path
    document: _Document
    env: Mapping[str, str]

    @property
    def policies(self) -> Path:
        """The folder of role policies, keyholders and first roots."""
        return self.workspace / "repo-metadata"

    @property
    def state(self) -> Path:
        """What this operator's machine remembers: registry, outbox, pending changes, locks."""
        return self.workspace / "state"

    @property
    def store(self) -> Path | None:
        """The folder of the artifact store, or None when it is a bucket."""
        folder = self.document.store.folder
        return None if folder is None else self.path(folder)

    @property
    def bucket(self) -> StoreSettings:
        """The table of the store, when it is a bucket."""
        return self.document.store

    @property
    def aws(self) -> AwsSettings:
        """Where this workspace lives at AWS."""
        return self.document.aws

    @property
    def spool(self) -> Path | None:
        """Where the spool courier keeps its folders, or None where it is not used."""
        found = self.document.couriers.spool
        return self.path(found.path) if found else None

    @property
    def ssm(self) -> SsmSettings | None:
        """What the courier ``ssm`` is told, or None where it is not used."""
        return self.document.couriers.ssm

    @property
    def iot_jobs(self) -> IotJobsSettings | None:
        """What the courier ``iot-jobs`` is told, or None where it is not used."""
        return self.document.couriers.iot_jobs

    def path(self, text: str) -> Path:
        """A path of ``ota.toml``, which counts from the workspace."""
        return (self.workspace / text).absolute()

    @property
    def ssh_inventory(self) -> Path | None:
        """The inventory of hosts reached by SSH, or None where that courier is not used."""
        found = self.document.couriers.ssh
        return self.path(found.inventory) if found else None

    def secret(self, reference: str, where: str) -> bytes:
        """What ``env:VARIABLE`` or ``file:PATH`` (mode 0600, at most 16 KiB) refers to.

        ``where`` names it in errors: ``NotFound``, ``NotPermitted`` (readable by others).
        """
        return References(self.workspace, self.env).read(reference, where)

    @property
    def registry_url(self) -> str:
        """SQLAlchemy URL, with absolute path and password; never print it."""
        url = self.document.registry.url
        scheme, _, rest = url.partition(":///")
        if scheme.startswith("sqlite"):
            return f"{scheme}:///{self.path(rest)}"
        reference = self.document.registry.password
        if not reference:
            return url
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        user = parts.username or ""
        word = quote(self.secret(reference, "registry.password").decode(), safe="")
        return urlunsplit(parts._replace(netloc=f"{user}:{word}@{host}"))

    def registry_is_new(self) -> bool:
        """Whether the registry is a file of this machine that nothing was ever written to."""
        if not self.document.registry.url.startswith("sqlite"):
            return False
        try:
            return Path(self.registry_url.partition(":///")[2]).stat().st_size == 0
        except FileNotFoundError:
            return True
        except OSError:
            return False  # opening it will say what is wrong

    def key_uri(self, name: str) -> str:
        """Where the private key of a keyholder is; relative ``file:`` URIs from the workspace."""
        return self.document.keys.get(name, f"file:keys/{name}.pem")

    def with_key(self, name: str, uri: str) -> Settings:
        """The same, with the private key of ``name`` at ``uri``."""
        keys = {**self.document.keys, name: uri}
        return replace(self, document=msgspec.structs.replace(self.document, keys=keys))

    def passphrase(self, name: str, ask: Callable[[str], str]) -> bytes:
        """The passphrase or PIN of one key; ``ask`` is called with the prompt's text as the last way.

        Raises ``NotFound`` (variable or file missing) or ``NotPermitted`` (readable by others).
        """
        own = "OTA_PASSPHRASE_" + name.upper().replace("-", "_").replace(":", "_")
        table = self.document.passphrases
        references = (
            f"env:{own}" if own in self.env else "",
            table.get(name, ""),
            "env:OTA_PASSPHRASE" if "OTA_PASSPHRASE" in self.env else "",
            table.get("default", ""),
            "prompt",
        )
        reference = next(r for r in references if r)
        if reference == "prompt":
            what = "PIN" if self.key_uri(name).startswith("hsm:") else "Passphrase"
            return ask(f"{what} of {name}").encode()
        return self.secret(reference, f"passphrases.{name}")


def load(workspace: Path, env: Mapping[str, str]) -> Settings:
    """Read and check ``<workspace>/ota.toml``; ``NotFound`` or ``Malformed`` (file and key)."""
    path = workspace / FILE
    data = durable.read(path, LIMIT, FILE)
    if data is None:
        raise NotFound(
            f"{workspace} is not a workspace: it has no {FILE}",
            subject=str(path),
            remedy="ota init, or name one: ota -C DIR",
        )
    try:
        document = msgspec.convert(tomllib.loads(data.decode()), _Document, strict=True)
    except msgspec.ValidationError as e:
        raise Malformed(f"{FILE}: {_dotted(str(e))}", subject=str(path)) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as e:
        raise Malformed(f"{FILE}: {e}", subject=str(path)) from e
    _check(document, path)
    return Settings(workspace.absolute(), document, env)


def _dotted(message: str) -> str:
    """``Expected `str` - at `$.store.url` `` -> ``store.url: Expected `str` ``."""
    text, _, where = message.partition(" - at `$")
    return f"{where.rstrip('`').lstrip('.')}: {text}" if where else text


def _check(document: _Document, path: Path) -> None:
    for key, what in (*document.store.faults(), *document.aws.faults()):
        raise _bad(path, key, what)
    _check_registry(document.registry, path)
    spool = document.couriers.spool
    if spool is not None and not spool.path:
        raise _bad(path, "couriers.spool.path", "is empty")
    ssh = document.couriers.ssh
    if ssh is not None and not ssh.inventory:
        raise _bad(path, "couriers.ssh.inventory", "is empty")
    for name, uri in document.keys.items():
        _check_name(path, "keys", name)
        if uri.find(":") < 1:
            raise _bad(path, f"keys.{name}", "is not a key URI such as file:keys/NAME.pem")
    for name, reference in document.passphrases.items():
        _check_name(path, "passphrases", name)
        if reference != "prompt":
            _check_reference(path, f"passphrases.{name}", reference)


def _check_registry(registry: _Registry, path: Path) -> None:
    scheme, mark, rest = registry.url.partition("://")
    if not mark or not rest.strip("/") or scheme.partition("+")[0] not in {"sqlite", "postgresql"}:
        raise _bad(path, "registry.url", "is not a sqlite:/// or postgresql+psycopg:// URL")
    try:
        literal = urlsplit(registry.url).password is not None
    except ValueError as e:
        raise _bad(path, "registry.url", f"is not a URL: {e}") from e
    if literal or "password=" in registry.url.lower():
        raise _bad(path, "registry.url", 'holds a password; use password = "env:VARIABLE"')
    if registry.password:
        _check_reference(path, "registry.password", registry.password)


def _check_name(path: Path, table: str, name: str) -> None:
    if not strict.IDENTIFIER.fullmatch(name):
        raise _bad(path, table, f"{name!r:.80} is not a keyholder's name")


def _check_reference(path: Path, where: str, reference: str) -> None:
    if not is_reference(reference):
        raise _bad(path, where, "is a literal secret; use env:VARIABLE, file:PATH or prompt")


def _bad(path: Path, where: str, what: str) -> Malformed:
    return Malformed(f"{path.name}: {where}: {what}", subject=str(path))
